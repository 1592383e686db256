"""Choosing what runs the guest's CPUs: kvm, hvf, whpx, or emulation (tcg) where none of these works."""

from __future__ import annotations

from hostvm.accel.choose import ACCELERATORS, crashes_guests, host_arch, native_accel, select_accel

__all__ = ["ACCELERATORS", "crashes_guests", "host_arch", "native_accel", "select_accel"]
