"""Choosing what runs the guest's CPUs: kvm, hvf, whpx, or emulation (tcg) where none of these works."""

from __future__ import annotations

from hostvm.accel.choose import ACCELERATORS, host_arch, native_accel, select_accel

__all__ = ["ACCELERATORS", "host_arch", "native_accel", "select_accel"]
