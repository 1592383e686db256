"""The way from a shared folder to a name in it, by which nothing outside of it is reached.

Paths are those of the share, `a/b/c`. On POSIX each folder on the way is opened from the one before without
following links (openat, O_NOFOLLOW), so neither `..`, nor a link to elsewhere, nor a folder that is swapped for a
link meanwhile leads out.

Windows has no openat: there the resolved folder is compared with the share's, which a race could beat.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.platform.unlinked import open_unlinked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POSIX = sys.platform != "win32"
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
ALWAYS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
ALWAYS |= getattr(os, "O_NONBLOCK", 0)  # a named pipe must not hold the server up


_HELD_MOST = 64
"""Folders; a search through all of a share opens more, one after the other."""

_PATHS_KEPT = 256
"""Taken apart: a call asks for the same few many times."""


class Place(NamedTuple):
    """A name in an open folder. Without `folder` (Windows) the name is an absolute path."""

    folder: int | None
    name: str


class OpenFolder:
    """A shared folder that is open. Every method but `close` and `is_current` raises OSError; none follows a link.

    :param unlinked: its real path, where that has to be opened without following a link.
    """

    def __init__(self, source: str, unlinked: str = "") -> None:
        self._source = source
        self._closing = threading.Lock()
        self._descriptor = _open(source, unlinked) if POSIX else None
        self._real = os.path.realpath(source)
        self._holder = 0
        self._held: dict[tuple[str, ...], int] = {}

    def hold(self) -> None:
        """Until `let_go` keep open for this thread what it opens on its way; one thread at a time, and not for long.

        So what a thread does in a folder is done in the one that it looked at, whatever has its name by then.
        """
        self._holder = threading.get_ident()

    def let_go(self) -> None:
        """See `hold`. Idempotent."""
        self._holder = 0
        while self._held:
            with contextlib.suppress(OSError):  # its file system is gone; none is kept for the next call
                os.close(self._held.popitem()[1])

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        with self._closing:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def is_current(self) -> bool:
        """Whether it is open, and its path still leads to the same folder."""
        with self._closing:
            try:
                if self._descriptor is not None:
                    return os.path.samestat(os.fstat(self._descriptor), Path(self._source).stat())
            except OSError:
                return False
            return not POSIX and os.path.realpath(self._source) == self._real

    @contextlib.contextmanager
    def place(self, path: str) -> Iterator[Place]:
        """The folder that holds the last name; the share itself is `.` in itself."""
        if (held := self.held(path)) is not None:
            yield held
            return
        names, last = _way(path)
        if not POSIX:
            yield Place(None, self._windows_path([*names, last]))
            return
        with self._walk(names) as folder:
            yield Place(folder, last)

    def held(self, path: str) -> Place | None:
        """`place`, in a folder that is open until `let_go`; None: not for this thread, or not so many."""
        names, last = _way(path)
        folder = self._reach(names)
        return None if folder is None else Place(folder, last)

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int | str]:
        """A folder itself: a descriptor; on Windows its path."""
        if not POSIX:
            yield self._windows_path(split(path), entered=True)
            return
        names = split(path)
        if (held := self._reach(names)) is not None:
            yield held
            return
        with self._walk(names) as folder:
            yield folder

    def _reach(self, way: tuple[str, ...]) -> int | None:
        """A folder that is kept open; None: not for this thread, or not so many."""
        if not POSIX or self._holder != threading.get_ident():
            return None
        if (found := self._held.get(way)) is not None:
            return found
        if len(self._held) + len(way) >= _HELD_MOST:
            return None
        if not self._held:
            self._held[()] = self._begin()
        at = len(way)
        while (found := self._held.get(way[:at])) is None:
            at -= 1
        for end in range(at + 1, len(way) + 1):
            found = self._held[way[:end]] = os.open(way[end - 1], FOLDER, dir_fd=found)
        return found

    def _begin(self) -> int:
        with self._closing:  # or the number could be another file's by the time that it is used
            if self._descriptor is None:
                raise OSError(errno.ENODEV, "the share is closed")
            return os.dup(self._descriptor)

    @contextlib.contextmanager
    def _walk(self, names: tuple[str, ...]) -> Iterator[int]:
        current = self._begin()
        try:
            for name in names:
                inner = os.open(name, FOLDER, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)

    def _windows_path(self, names: Sequence[str], *, entered: bool = False) -> str:
        """:param entered: the last name is a folder that is used itself, so that it may not be a link to outside."""
        if any(letter in name for name in names for letter in '\\/:*?"<>|'):
            raise OSError(errno.EINVAL, "a name that Windows cannot hold")
        path = os.path.join(self._real, *(name for name in names if name != "."))  # noqa: PTH118 - text throughout
        way = path if entered else os.path.dirname(path)  # noqa: PTH120 - see above
        folder = os.path.realpath(way) if names else self._real
        if os.path.commonpath([folder, self._real]) != self._real and path != self._real:
            raise OSError(errno.EACCES, "outside the share")
        return path


def _open(source: str, unlinked: str) -> int:
    return open_unlinked(unlinked) if unlinked else os.open(source, FOLDER & ~getattr(os, "O_NOFOLLOW", 0))


@lru_cache(maxsize=_PATHS_KEPT)
def split(path: str) -> tuple[str, ...]:
    """A path's names. OSError for one that names a way up, which the guest's kernel never sends."""
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names:
        raise OSError(errno.EACCES, "a way out of the share")
    if any("\0" in name for name in names):
        raise OSError(errno.EINVAL, "a zero byte in a name")
    return names


@lru_cache(maxsize=_PATHS_KEPT)
def _way(path: str) -> tuple[tuple[str, ...], str]:
    """The folders on the way to the last name, and that; the share itself is `.` in itself."""
    names = split(path)
    return (names[:-1], names[-1]) if names else ((), ".")


def refuse_link(place: Place) -> None:
    """Where nothing else keeps a call from following the last name of a path (Windows).

    :raises OSError: it is a link.
    """
    if place.folder is None and os.path.islink(place.name):  # noqa: PTH114 - text throughout
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place.name)


@contextlib.contextmanager
def pinned(place: Place) -> Iterator[int | str]:
    """A file or folder by something that cannot become a link meanwhile; unreadable ones too where that is possible."""
    if place.folder is None:
        refuse_link(place)
        yield place.name
        return
    path_only = getattr(os, "O_PATH", 0)
    opened = os.open(place.name, (path_only or os.O_RDONLY) | ALWAYS, dir_fd=place.folder)
    try:
        if stat.S_ISLNK(os.fstat(opened).st_mode):
            raise OSError(errno.EOPNOTSUPP, "a link has no mode of its own")
        yield f"/proc/self/fd/{opened}" if path_only else opened
    finally:
        os.close(opened)
