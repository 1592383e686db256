"""When a file was made. With its inode number that names it for good: Linux gives a number alone to another file soon.

Not on macOS, where APFS never gives one again and setting an older modification time changes the time of birth; nor on
Windows, whose numbers hold a count, and where any program may set the time of creation.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from functools import cache
from typing import Any

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = -100, 0x100, 0x1000
_STATX_BTIME = 0x800
_SIZE = 256  # of struct statx (include/uapi/linux/stat.h)
_FACTS = struct.Struct("=I76xqI")
"""What was found of what was asked for, and the time of birth."""


def birth_of(name: str, folder: int | None) -> int:
    """Nanoseconds since 1970; 0 where that is not known, or is no lasting fact. Links are not followed.

    :param name: in `folder`, else a path; "" for what `folder` itself is open on.
    """
    return _statx(name, folder) if sys.platform == "linux" else 0


def _statx(name: str, folder: int | None) -> int:
    call = _function()
    if call is None:
        return 0
    buffer = _ROOM.bytes
    flags = _AT_SYMLINK_NOFOLLOW if name else _AT_EMPTY_PATH
    if call(_AT_FDCWD if folder is None else folder, os.fsencode(name), flags, _STATX_BTIME, buffer):
        return 0
    mask, seconds, rest = _FACTS.unpack_from(buffer)
    return int(seconds * 10**9 + rest) if mask & _STATX_BTIME else 0


class _Room(threading.local):
    """Each thread's own struct statx."""

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(_SIZE)


_ROOM = _Room()


@cache
def _function() -> Any:
    """The C library's statx (glibc 2.28, musl 1.2.4); None for one that has none."""
    try:
        call = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
    return call
