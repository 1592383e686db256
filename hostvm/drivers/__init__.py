"""Hypervisor drivers behind one protocol (`base`)."""
