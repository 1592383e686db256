"""Files that are kept open between calls: NFS opens and closes nothing."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.shares.nfs.places import GONE

if TYPE_CHECKING:
    from hostvm.shares.nfs.places import Places
    from hostvm.shares.tree import Tree

_MOST = 0 if sys.platform == "win32" else 256
"""Windows lets nobody remove or rename what is open."""


_WRITTEN_SECONDS = 1.0
_READ_SECONDS = 5.0
"""Nobody can execute a file that is open for writing, nor unmount a disk with open files."""

_FAULTS_MOST = 256

_REMOVED_SECONDS = 60.0
"""Who in the guest has a file open that was removed here can find it by this descriptor alone. It takes room, too."""


@dataclass(slots=True)
class _Open:
    descriptor: int
    used: float


class Descriptors:
    """The descriptors of one share's files, those that were used last.

    A file that is removed on this computer within some seconds after a container used it can be used on there.
    """

    def __init__(self, tree: Tree, places: Places) -> None:
        self._tree = tree
        self._places = places
        self._open: OrderedDict[tuple[int, bool], _Open] = OrderedDict()
        self._faults: dict[int, OSError] = {}

    def get(self, number: int, *, write: bool, path: str | None = None) -> int:
        """The file's descriptor, which stays this object's.

        :param path: where it is, if that is known.
        :raises OSError: it cannot be opened; ESTALE: it is gone.
        """
        key = (number, write)
        if (known := self._open.get(key)) is not None:
            self._open.move_to_end(key)
            known.used = time.monotonic()
            return known.descriptor
        if not write and path is None and (again := self._again(number)) is not None:
            self._open[key] = _Open(again, time.monotonic())
            return again
        for place in self._places.paths(number) if path is None else (path,):
            try:
                opened = self._tree.open_owned(place, os.O_RDWR if write else os.O_RDONLY)
            except OSError as fault:
                if fault.errno in GONE:
                    continue
                raise
            if self._places.number(self._tree.see_open(opened), place) == number:
                self._open[key] = _Open(opened, time.monotonic())
                return opened
            os.close(opened)
        if not write and (written := self._open.get((number, True))) is not None:
            return written.descriptor
        raise OSError(errno.ESTALE, "it is gone")

    def _again(self, number: int) -> int | None:
        """A descriptor to read what is open for writing, without a look for its name; None: not so."""
        written = self._open.get((number, True))
        if written is None or sys.platform != "linux":
            return None
        try:
            return os.open(f"/proc/self/fd/{written.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # its mode forbids that
            return None

    def put(self, number: int, descriptor: int) -> None:
        """Keep one that was opened for writing, whatever the file's mode lets a later one do."""
        self.drop(number)
        self._open[number, True] = _Open(descriptor, time.monotonic())

    def peek(self, number: int) -> int | None:
        """A descriptor of it, if there is one."""
        known = self._open.get((number, True)) or self._open.get((number, False))
        return known.descriptor if known else None

    def is_written(self, number: int) -> bool:
        """Whether it is open for writing."""
        return (number, True) in self._open

    def written(self, number: int) -> None:
        """All that the guest has written is there; close what was open for that. Idempotent.

        :raises OSError: it could not be written, as only closing it tells (a quota, sshfs), now or before.
        """
        self._close((number, True))
        if (fault := self._faults.pop(number, None)) is not None:
            raise fault

    def drop(self, number: int) -> None:
        """Close what is open of it, which is gone. Idempotent."""
        self._close((number, True))
        self._close((number, False))
        self._faults.pop(number, None)

    def take(self, number: int) -> list[int]:
        """Descriptors of a file that is gone, which the caller closes."""
        self._faults.pop(number, None)
        found = (self._open.pop((number, write), None) for write in (True, False))
        return [known.descriptor for known in found if known is not None]

    def trim(self) -> None:
        """Close what is beyond the number that may stay open; between calls."""
        while len(self._open) > _MOST:
            self._close(next(iter(self._open)))

    def sweep(self) -> bool:
        """Close what was not used for a while; gives whether there is more to come."""
        now = time.monotonic()
        for key, known in list(self._open.items()):
            idle = _REMOVED_SECONDS if _is_removed(known.descriptor) else _WRITTEN_SECONDS if key[1] else _READ_SECONDS
            if now - known.used > idle:
                self._close(key)
        return bool(self._open)

    def close(self) -> None:
        """All of them."""
        while self._open:
            self._close(next(iter(self._open)))

    def _close(self, key: tuple[int, bool]) -> None:
        """What that tells is for who wrote the file, not for whoever asks for something now. Idempotent."""
        if (known := self._open.pop(key, None)) is None:
            return
        try:
            os.close(known.descriptor)
        except OSError as fault:
            if key[1] and len(self._faults) < _FAULTS_MOST:
                self._faults[key[0]] = fault


def _is_removed(descriptor: int) -> bool:
    try:
        return not os.fstat(descriptor).st_nlink
    except OSError:  # its file system is gone (sshfs, a network drive)
        return False
