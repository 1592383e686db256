"""Calls about what is in a file, and when it is on the disk."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.refusals import OK, Later
from hostvm.shares.nfs.xdr import opaque, u32
from hostvm.shares.sftp_files import read_at, write_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.lasting import Lasting
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.xdr import Reader


class Contents:
    """Reads and writes; one call after the other, never two at once.

    :param sweep_soon: has what stays open closed after a while.
    """

    def __init__(self, handles: Handles, lasting: Lasting, sweep_soon: Callable[[], None]) -> None:
        import psutil

        self._handles = handles
        self._lasting = lasting
        self._sweep_soon = sweep_soon
        # The guest writes once more what it was not told to be on the disk, when this has changed.
        self._verifier = struct.pack(">Q", int(psutil.boot_time()))
        self.table = {wire.READ: self._read, wire.WRITE: self._write, wire.COMMIT: self._commit}

    def cut(self, export: Export, number: int, size: int) -> None:
        """Make a file shorter or longer."""
        if export.tree.readonly:
            raise OSError(errno.EROFS, "the share is read-only")
        self.settled(export, number)
        os.ftruncate(export.files.get(number, write=True), size)
        self._sweep_soon()
        export.files.trim()

    def settled(self, export: Export, number: int) -> None:
        """Before a file is changed that was there already: see `hostvm.shares.nfs.lasting`."""
        if not self._lasting.is_fresh((export.system, number)):
            self._lasting.drain()

    def _read(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        offset, length = reader.u64(), reader.u32()
        descriptor = export.content(number)
        self._sweep_soon()
        data = read_at(descriptor, min(length, wire.LARGEST), offset)
        told = wire.maybe(export.opened(number, descriptor))
        ended = u32(offset + len(data) >= os.fstat(descriptor).st_size)
        export.files.trim()
        return b"".join((OK, told, u32(len(data)), ended, opaque(data)))

    def _write(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        offset, length, how, data = reader.u64(), reader.u32(), reader.u32(), reader.opaque(wire.LARGEST)
        if export.tree.readonly:
            raise OSError(errno.EROFS, "the share is read-only")
        self.settled(export, number)
        descriptor = export.files.get(number, write=True)
        self._sweep_soon()
        before = os.fstat(descriptor)
        path = export.places.path(number)
        with export.tree.known.setting(export.tree.outside(path)):
            write_at(descriptor, data[:length], offset)
        told = self._told(export, number, descriptor, before)
        later = self._later(export, number)  # then the guest need not ask
        answer = b"".join(
            (OK, told, u32(min(length, len(data))), u32(wire.FILE_SYNC if later else how), self._verifier)
        )
        if how == wire.UNSTABLE and not later:
            export.files.trim()
            return answer
        return self._on_disk(export, number, descriptor, answer, wait=not later)

    def _commit(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        reader.u64()
        reader.u32()
        if (descriptor := export.files.peek(number)) is None:
            descriptor = export.files.get(number, write=True)
        before = os.fstat(descriptor)
        answer = OK + self._told(export, number, descriptor, before) + self._verifier
        wait = not self._later(export, number)
        return self._on_disk(export, number, descriptor, answer, wait=wait)

    def _later(self, export: Export, number: int) -> bool:
        return self._lasting.later((export.system, number), lambda: os.dup(export.files.get(number, write=False)))

    def _told(self, export: Export, number: int, descriptor: int, before: os.stat_result) -> bytes:
        return wire.before(before) + wire.maybe(export.opened(number, descriptor))

    def _on_disk(self, export: Export, number: int, descriptor: int, answer: bytes, *, wait: bool) -> bytes:
        """The answer; one that has to wait for the disk comes later."""
        if not wait:
            export.files.written(number)
            return answer
        copy = os.dup(descriptor)
        try:
            export.files.written(number)
        except OSError:
            os.close(copy)
            raise
        raise Later(copy, answer)
