"""Driving QEMU itself: its argv, its monitor (QMP), its life."""
