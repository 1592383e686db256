"""Calls that take a name away, or give it to another file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.parting import is_light
from hostvm.shares.nfs.places import join
from hostvm.shares.nfs.refusals import OK

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.lasting import Lasting
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.xdr import Reader

_HIDDEN = ".nfs"
"""How the guest's kernel begins the name that it gives to a file that is removed while a program has it open."""


class Taking:
    """One call after the other, never two at once."""

    def __init__(self, handles: Handles, lasting: Lasting) -> None:
        self._handles = handles
        self._lasting = lasting
        self.table = {wire.REMOVE: self._remove, wire.RMDIR: self._rmdir, wire.RENAME: self._rename}

    def _remove(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        return self._take_away(export, folder, self._handles.name(reader), export.tree.unlink)

    def _rmdir(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        export.parting.settle()
        return self._take_away(export, folder, self._handles.name(reader), export.tree.rmdir)

    def _take_away(self, export: Export, folder: int, name: str, act: Callable[[str], None]) -> bytes:
        found, around = export.whereabouts(folder)
        path = join(around, name)
        here = export.tree.outside(path)
        if (done := export.tree.known.answers_removal(here)) is not None:
            if not done:
                raise OSError(errno.EPERM, "it was made again here")
            return OK + export.changed(None, folder)
        self._require(found, here)
        gone = _there(export, path)  # by this the folder is held, whatever has its name when the disk is done
        self._lasting.drain()
        with export.tree.known.acting(here, removes=True), _held(export, path, gone):
            act(path)
        self._let_go(export, gone, folder, name)
        return OK + export.changed(found, folder)

    def _rename(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name = self._handles.name(reader)
        other, target_folder = self._handles.file(reader)
        target_name = self._handles.name(reader)
        if other is not export:
            raise OSError(errno.EXDEV, "two shares")
        known = export.tree.known
        found, around = export.whereabouts(folder)
        target_found, target_around = export.whereabouts(target_folder)
        source, target = join(around, name), join(target_around, target_name)
        places = export.tree.outside(source), export.tree.outside(target)
        if target_name.startswith(_HIDDEN) and (done := known.answers_removal(places[0])) is not None:
            if not done:
                raise OSError(errno.EACCES, "it was made again here")
            return OK + export.changed(None, folder) + export.changed(None, target_folder)
        self._require(found, places[0])
        self._require(target_found, places[1])
        moved, gone = _there(export, source), _there(export, target)  # as in `_take_away`
        self._lasting.drain()
        # By either name it is there after that: as a second one, which a rename leaves, or in other letters' case.
        same = moved is not None and gone is not None and gone.number == moved.number
        held = _held(export, target, None if same else gone)
        with known.acting(places[0], removes=not same), known.acting(places[1]), held:
            export.tree.rename(source, target)
        if moved is not None:
            if not same:
                self._let_go(export, gone, target_folder, target_name)
                export.places.forget(moved.number, folder, name)
            export.places.note(target_folder, [(moved.number, target_name)])
        return OK + export.changed(found, folder) + export.changed(target_found, target_folder)

    def _require(self, found: os.stat_result | None, here: str) -> None:
        if self._handles.told_by_us:
            # It comes too late, as after a pause: what may have that name by now was not taken away here.
            raise OSError(errno.EPERM if os.path.lexists(here) else errno.ENOENT, "no deletion of this computer")
        if found is None:
            raise OSError(errno.ESTALE, "its folder is gone")

    def _let_go(self, export: Export, gone: _There | None, folder: int, name: str) -> None:
        """Of a name that is gone. Nobody in the guest has its file open: its kernel would have renamed it instead."""
        if gone is None:
            return
        export.places.forget(gone.number, folder, name)
        if gone.light:
            export.parting.close(export.files.take(gone.number))
        elif gone.last:
            export.files.drop(gone.number)


class _There(NamedTuple):
    """The number of what has a name, whether that is its last, and whether it may then be freed a moment later."""

    number: int
    last: bool
    light: bool


def _there(export: Export, path: str) -> _There | None:
    try:
        seen = export.tree.see(path)
    except OSError:
        return None
    last = seen.found.st_nlink <= 1 or stat.S_ISDIR(seen.found.st_mode)
    return _There(export.places.number(seen, path), last, last and is_light(seen.found))


def _held(export: Export, path: str, gone: _There | None) -> AbstractContextManager[None]:
    """Inside the block what is removed there need not be freed; see `hostvm.shares.nfs.parting`."""
    if gone is None or not gone.light or export.files.peek(gone.number) is not None:
        return contextlib.nullcontext()
    return export.parting.held(export.tree, path)
