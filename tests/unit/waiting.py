"""For what another thread does."""

from __future__ import annotations

import time


def until(condition, seconds=10.0):
    """Wait for a condition; gives its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not after {seconds} s"
        time.sleep(0.01)
    return value
