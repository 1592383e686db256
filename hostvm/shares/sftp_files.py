"""What an SFTP client has open: files of this computer, and folders being listed."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from hostvm.shares import sftp_wire as wire

if TYPE_CHECKING:
    from hostvm.shares.known import Known
    from hostvm.shares.tree import Tree


class Handle:
    """An open file, or a folder being listed.

    `names` are those of a folder that are still to be told, the next one last; `ended`: their end was told.

    :param changes: the file's name here when it was opened for writing; `known` is told when that ends.
    """

    def __init__(
        self,
        path: str,
        descriptor: int | None,
        *,
        append: bool = False,
        known: Known | None = None,
        changes: str = "",
    ) -> None:
        self.path = path
        self.known = known
        self.changes = changes
        self.descriptor = descriptor
        self.append = append
        self.names: list[tuple[str, os.stat_result]] | None = None
        self.ended = False

    def close(self) -> None:
        """Once."""
        try:
            if self.descriptor is not None:
                os.close(self.descriptor)
        finally:
            if self.known is not None and self.changes:
                self.known.closed(self.changes)


def open_file(tree: Tree, inside: str, wanted: int, mode: int) -> int:
    """A descriptor. A new file gets the mode asked for, whatever this process's umask is; an old one keeps its own.

    :param wanted: OPEN's flags.
    :raises OSError: it cannot be opened so.
    """
    flags = _open_flags(wanted)
    new = bool(wanted & wire.F_CREAT)
    if new and not wanted & wire.F_EXCL:
        try:
            descriptor = tree.open(inside, flags | os.O_EXCL, mode)
        except FileExistsError:
            return tree.open(inside, flags & ~os.O_CREAT, mode)
    else:
        descriptor = tree.open(inside, flags, mode)
    if new and hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # file systems without modes, and of other users (vfat, cifs)
            os.fchmod(descriptor, mode)
    return descriptor


def _open_flags(wanted: int) -> int:
    """OPEN's flags as those of `os.open`."""
    both = wire.F_READ | wire.F_WRITE
    flags = {both: os.O_RDWR, wire.F_WRITE: os.O_WRONLY}.get(wanted & both, os.O_RDONLY)
    for bit, flag in (
        (wire.F_APPEND, os.O_APPEND),
        (wire.F_CREAT, os.O_CREAT),
        (wire.F_TRUNC, os.O_TRUNC),
        (wire.F_EXCL, os.O_EXCL),
    ):
        flags |= flag if wanted & bit else 0
    return flags


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """At most `length` bytes from there; fewer at the end of the file."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
    return os.pread(descriptor, length, offset)


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """All of it, there."""
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        write_all(descriptor, data)
        return
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def write_all(descriptor: int, data: memoryview) -> None:
    """All of it, where the file stands: at its end, if it was opened to append."""
    while data:
        data = data[os.write(descriptor, data) :]
