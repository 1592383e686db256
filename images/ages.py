"""How old a file is, though this computer's clock is set now and then."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def age_of(path: Path) -> float:
    """Seconds since a file or folder was changed, or marked as such.

    One from the future is of before the clock was set back: how old it is nobody knows, so that it counts as new, and
    ages from here on.

    :raises OSError: it is not there.
    """
    age = time.time() - path.stat().st_mtime
    if age < 0:
        with contextlib.suppress(OSError):
            os.utime(path)
    return max(0.0, age)
