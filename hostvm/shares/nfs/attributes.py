"""Calls about what is known of a file: found, told and set.

Whoever is root in the guest may read and change what the user may; others as well, but for what its owner may not. In
the guest's eyes a file belongs to whoever made it there (`Tree.chown`).
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.handles import checked
from hostvm.shares.nfs.refusals import OK, RefusedError
from hostvm.shares.nfs.xdr import opaque, u32

if TYPE_CHECKING:
    from hostvm.shares.nfs.contents import Contents
    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.wire import Wish
    from hostvm.shares.nfs.xdr import Reader
    from hostvm.shares.tree import Seen


class Attributes:
    """One call after the other, never two at once."""

    def __init__(self, handles: Handles, contents: Contents) -> None:
        self._handles = handles
        self._contents = contents
        self.table = {
            wire.GETATTR: self._getattr,
            wire.SETATTR: self._setattr,
            wire.LOOKUP: self._lookup,
            wire.ACCESS: self._access,
            wire.READLINK: self._readlink,
        }

    def _getattr(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        return OK + export.attributes(number)

    def _setattr(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        export.just_made.pop(number, None)  # it has been told
        wish = wire.read_wish(reader)
        guarded = (reader.u32(), reader.u32()) if reader.u32() else None
        seen, path = export.look(number)
        found = seen.found
        if guarded is not None and guarded != divmod(found.st_ctime_ns, 10**9):
            raise RefusedError(wire.NOT_SYNC)
        if path is None:
            self._apply_to_open(export, number, seen, wish)
            return OK + export.changed(found, number)
        here = export.tree.outside(path)
        # What is acted out sets the time that was found and nothing else; whatever else comes meanwhile is meant.
        times_only = (wish.mode, wish.user, wish.group, wish.size) == (None, None, None, None)
        told = wish.modified is not None and wish.modified != wire.NOW
        if times_only and told and export.tree.known.retold(here, (wish.modified or 0) // 10**9):
            return OK + export.changed(found, number)
        with export.tree.known.setting(here):
            self._apply(export, number, path, wish)
        return OK + export.changed(found, number)

    def _apply(self, export: Export, number: int, path: str, wish: Wish) -> None:
        tree = export.tree
        if wish.size is not None:
            self._contents.cut(export, number, wish.size)
        if wish.user is not None or wish.group is not None:
            tree.chown(path, (_or_same(wish.user), _or_same(wish.group)))
        if wish.mode is not None:
            tree.chmod(path, wish.mode)
        if wish.accessed is not None or wish.modified is not None:
            tree.set_times(path, _time(wish.accessed), _time(wish.modified))

    def _apply_to_open(self, export: Export, number: int, seen: Seen, wish: Wish) -> None:
        """Of a file whose name is another's by now, or nobody's."""
        descriptor = export.files.peek(number)
        if descriptor is None:
            raise RefusedError(wire.STALE)
        owner, times = None, None
        if wish.user is not None or wish.group is not None:
            wanted = (wish.user, wish.group)
            user, group = (old if new is None else new for old, new in zip(seen.owner, wanted, strict=True))
            owner = (user, group)
        if wish.accessed is not None or wish.modified is not None:
            accessed, modified = _time(wish.accessed), _time(wish.modified)
            times = (
                seen.found.st_atime_ns if accessed is None else accessed,
                seen.found.st_mtime_ns if modified is None else modified,
            )
        export.tree.set_open(descriptor, mode=wish.mode, owner=owner, times=times)
        if wish.size is not None:
            self._contents.cut(export, number, wish.size)

    def _lookup(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name = reader.text(wire.PATH_MOST)
        around = wire.maybe(export.attributes(folder))  # it was looked for: its path is true
        if name == ".":
            number, told = folder, export.attributes(folder)
        elif name == "..":
            number = export.places.folder(folder)
            told = export.attributes(number)
        else:
            number, told = export.child(folder, export.places.path(folder), checked(name))
        return OK + opaque(export.handle(number)) + wire.maybe(told) + around

    def _access(self, call: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        wanted = reader.u32()
        told, found, path = export.told(number)
        if found is not None and path is not None and stat.S_ISREG(found.st_mode):
            wanted &= _allowed(export, path, found)
        if export.tree.readonly:
            wanted &= ~(wire.MODIFY | wire.EXTEND | wire.DELETE)
        if call.user:
            # Not more than the owner may, which is the user of this computer whoever asks.
            mode = wire.mode_of(told)
            wanted &= ~(0 if mode & stat.S_IWUSR else wire.MODIFY | wire.EXTEND)
            wanted &= ~(0 if mode & stat.S_IRUSR else wire.MAY_READ)
        return OK + wire.maybe(told) + u32(wanted)

    def _readlink(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        path = export.folder(number)[1]
        text = export.tree.readlink(path)
        return OK + export.after(number) + opaque(encode(text))


def _allowed(export: Export, path: str, found: os.stat_result) -> int:
    """Bits of what this process may do with a file of somebody else, or it would be refused after it was opened."""
    allowed = ~0 if export.tree.may(path, os.W_OK, found) else ~(wire.MODIFY | wire.EXTEND)
    return allowed if export.tree.may(path, os.R_OK, found) else allowed & ~wire.MAY_READ


def _or_same(value: int | None) -> int:
    return 0xFFFFFFFF if value is None else value


def _time(wanted: int | None) -> int | None:
    return time.time_ns() if wanted == wire.NOW else wanted
