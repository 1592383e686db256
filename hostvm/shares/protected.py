"""What Windows calls read-only, after a mode without `w` was set: it neither removes nor replaces that; Linux does."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostvm.shares.open_folder import Place


@contextlib.contextmanager
def removable(place: Place) -> Iterator[None]:
    """What has that name may be removed or replaced inside the block, whatever its mode.

    Where that fails, it has its mode again. Of places without a folder alone, which are those of Windows.
    """
    mode = _mode_without_writing(place.name) if place.folder is None else None
    if mode is None:
        yield
        return
    os.chmod(place.name, mode | stat.S_IWUSR)  # noqa: PTH101 - text throughout
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.chmod(place.name, mode)  # noqa: PTH101
        raise


def _mode_without_writing(path: str) -> int | None:
    """None for what may be written, is a link or is not there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISLNK(mode) or mode & stat.S_IWUSR else stat.S_IMODE(mode)
