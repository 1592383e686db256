"""What to tell when another program found this computer's disk full, which it tells in its own words alone."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from hostvm.platform.words import free_room

if TYPE_CHECKING:
    from pathlib import Path

_FULL = (os.strerror(errno.ENOSPC), os.strerror(getattr(errno, "EDQUOT", errno.ENOSPC)))
"""What it says then, or when a quota is used up, in the C locale, as Python does."""


def explained(said: str | None, folder: Path) -> tuple[str, str] | None:
    """Details and what to do, of an error that quotes the program; None when it does not speak of a full disk.

    :param folder: on the disk in question, and there when the error is read.
    """
    if not any(words in (said or "") for words in _FULL):
        return None
    way = f"free some space: {free_room(str(folder))}\nthen run the same command again"
    return f"this computer's disk is full\n{said}", way
