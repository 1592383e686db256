"""Calls about the file system that a share lies on, and what the server can do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.folders import PIECE_MOST
from hostvm.shares.nfs.refusals import OK
from hostvm.shares.nfs.xdr import u32, u64

if TYPE_CHECKING:
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.xdr import Reader

_LINKS_MOST = 32000
_PROPERTIES = 0x1B  # FSF3_LINK, FSF3_SYMLINK, FSF3_HOMOGENEOUS, FSF3_CANSETTIME
_INSENSITIVE = sys.platform in ("darwin", "win32")


class Systems:
    """One call after the other, never two at once."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self.table = {wire.FSSTAT: self._fsstat, wire.FSINFO: self._fsinfo, wire.PATHCONF: self._pathconf}

    def _fsstat(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        there = export.tree.statvfs(export.whereabouts(number)[1])
        room = (there.f_blocks * there.f_frsize, there.f_bfree * there.f_frsize, there.f_bavail * there.f_frsize)
        return b"".join(
            (OK, export.after(number), *map(u64, (*room, there.f_files, there.f_ffree, there.f_favail)), u32(0))
        )

    def _fsinfo(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        sizes = (wire.LARGEST, wire.LARGEST, 4096, wire.LARGEST, wire.LARGEST, 4096, PIECE_MOST)
        return b"".join((OK, export.after(number), *map(u32, sizes), u64(2**63 - 1), u32(0), u32(1), u32(_PROPERTIES)))

    def _pathconf(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        words = (_LINKS_MOST, wire.NAME_MOST, 1, 0, int(_INSENSITIVE), 1)
        return b"".join((OK, export.after(number), *map(u32, words)))
