"""This computer's memory."""

from __future__ import annotations

import sys


def total_memory() -> int:
    """Bytes. On Linux read by itself: psutil, which does the same there, takes 10 ms to import."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no pathlib for this
            return int(file.readline().split()[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().total)
