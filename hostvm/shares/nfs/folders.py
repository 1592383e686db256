"""Calls that read a folder."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.listing import Listings
from hostvm.shares.nfs.refusals import OK, RefusedError
from hostvm.shares.nfs.xdr import opaque, u32, u64

if TYPE_CHECKING:
    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.xdr import Reader

PIECE_MOST = 256 * 1024
_NAMES_AT_ONCE = 200
_BESIDE_NAMES = 200
"""Bytes of a folder's piece besides its entries."""


class Folders:
    """One call after the other, never two at once."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._listings = Listings()
        self.table = {wire.READDIR: self._readdir, wire.READDIRPLUS: self._readdirplus}

    def _readdir(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        cookie = reader.u64()
        reader.fixed(8)
        return self._piece(export, folder, cookie, reader.u32(), plus=False)

    def _readdirplus(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        cookie = reader.u64()
        reader.fixed(8)
        reader.u32()
        return self._piece(export, folder, cookie, reader.u32(), plus=True)

    def _piece(self, export: Export, folder: int, cookie: int, most: int, *, plus: bool) -> bytes:
        found, path = export.folder(folder)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, "not a folder")
        export.parting.settle()
        room = min(most, PIECE_MOST) - _BESIDE_NAMES
        parts: list[bytes] = []
        noted: list[tuple[int, str]] = []
        ended = True
        for at, name, number in ((1, ".", folder), (2, "..", export.places.folder(folder))):
            if cookie < at:
                told = export.handle(number), wire.maybe(export.attributes(number))
                parts.append(_entry(number, name, at, told if plus else None))
        room -= sum(map(len, parts))
        names = self._listings.after((export.system, folder), export.tree, path, cookie if cookie > 2 else 0)  # noqa: PLR2004
        for start in range(0, len(names), _NAMES_AT_ONCE):
            cookies = {name: at for at, name in names[start : start + _NAMES_AT_ONCE]}
            for name, number, seen in export.children(path, list(cookies)):
                entry = _entry(number, name, cookies[name], (export.handle(number), wire.maybe(seen)) if plus else None)
                if len(entry) > room:
                    ended = False
                    break
                room -= len(entry)
                parts.append(entry)
                noted.append((number, name))
            if not ended:
                break
        if not ended and not parts:
            raise RefusedError(wire.TOO_SMALL)
        if plus:
            export.places.note(folder, noted)
        return b"".join((OK, export.after(folder), bytes(8), *parts, u32(0), u32(ended)))


def _entry(number: int, name: str, cookie: int, told: tuple[bytes, bytes] | None) -> bytes:
    """`entry3`, or `entryplus3` with a handle and `post_op_attr`."""
    words = u32(1) + u64(number) + opaque(encode(name)) + u64(cookie)
    return words if told is None else words + told[1] + u32(1) + opaque(told[0])
