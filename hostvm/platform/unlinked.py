"""Opening a folder by a path that has no link in it, at the moment of opening."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def open_unlinked(path: str) -> int:
    """A descriptor of a folder. POSIX only.

    Linux opens each folder on the way from the one before; what stands there need not be readable. macOS does that by
    itself (O_NOFOLLOW_ANY, open(2), macOS 11).

    :param path: absolute, without `.` and `..`.
    :raises OSError: there is none, or a link is on the way.
    """
    if sys.platform == "linux":
        above = os.open("/", os.O_PATH | _FOLDER)
        for part in Path(path).parts[1:-1]:
            try:
                below = os.open(part, os.O_PATH | _NOFOLLOW | _FOLDER, dir_fd=above)
            finally:
                os.close(above)
            above = below
        try:
            return os.open(Path(path).name or "/", _FOLDER | _NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return os.open(path, _FOLDER | getattr(os, "O_NOFOLLOW_ANY", _NOFOLLOW))
