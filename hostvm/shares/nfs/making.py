"""Calls that make files, folders, links and special files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.places import join
from hostvm.shares.nfs.refusals import OK
from hostvm.shares.nfs.xdr import opaque, u32

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.shares.nfs.contents import Contents
    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.handles import Handles
    from hostvm.shares.nfs.lasting import Lasting
    from hostvm.shares.nfs.rpc import Call
    from hostvm.shares.nfs.wire import Wish
    from hostvm.shares.nfs.xdr import Reader

_REMEMBERED = 256


class Making:
    """One call after the other, never two at once.

    :param sweep_soon: has what stays open closed after a while.
    """

    def __init__(self, handles: Handles, contents: Contents, lasting: Lasting, sweep_soon: Callable[[], None]) -> None:
        self._handles = handles
        self._contents = contents
        self._lasting = lasting
        self._sweep_soon = sweep_soon
        self.table = {
            wire.CREATE: self._create,
            wire.MKDIR: self._mkdir,
            wire.SYMLINK: self._symlink,
            wire.MKNOD: self._mknod,
            wire.LINK: self._link,
        }

    def _create(self, call: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name, how = self._handles.name(reader), reader.u32()
        wish = wire.Wish() if how == wire.EXCLUSIVE else wire.read_wish(reader)
        verifier = bytes(reader.fixed(8)) if how == wire.EXCLUSIVE else b""
        found, path = export.folder(folder)
        inside = join(path, name)
        mode = 0o600 if wish.mode is None else wish.mode & 0o7777
        told = None
        with export.tree.known.acting(export.tree.outside(inside)):
            try:
                # The owner is kept in an attribute, which only what may be written to can have.
                descriptor = export.tree.open(inside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode | 0o600)
            except FileExistsError:
                if how == wire.GUARDED:
                    raise
                number = export.child(folder, path, name)[0]
                if how == wire.EXCLUSIVE and export.just_made.get(number) != verifier:
                    raise
                if wish.size is not None:
                    self._contents.cut(export, number, wish.size)
            else:
                number = export.places.number(export.tree.see_open(descriptor), inside)
                export.files.put(number, descriptor)
                self._lasting.made((export.system, number))
                self._belongs(export, inside, call, wish)
                with contextlib.suppress(OSError):  # file systems without modes, and of other users (vfat, cifs)
                    export.tree.set_open(descriptor, mode=mode, owner=None, times=None)
                if verifier:
                    export.just_made[number] = verifier
                    while len(export.just_made) > _REMEMBERED:
                        export.just_made.popitem(last=False)
                export.places.note(folder, [(number, name)])
                told = export.seen(export.tree.look_open(descriptor), number, inside)
        self._sweep_soon()
        export.files.trim()
        if told is None:
            return self._made(export, folder, inside, found)
        return self._answer(export, folder, number, told, found)

    def _mkdir(self, call: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name, wish = self._handles.name(reader), wire.read_wish(reader)
        if self._handles.told_by_us:
            return self._made_here(export, folder, name, is_folder=True)
        mode = 0o777 if wish.mode is None else wish.mode & 0o7777

        def make(path: str) -> None:
            export.tree.mkdir(path, mode | 0o700)  # as of a file: first the owner, then the mode
            self._belongs(export, path, call, wish)
            if mode & 0o700 != 0o700:  # noqa: PLR2004
                export.tree.chmod(path, mode)

        return self._make(export, folder, name, make)

    def _symlink(self, _: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name, _wish, text = self._handles.name(reader), wire.read_wish(reader), reader.text(wire.PATH_MOST)
        return self._make(export, folder, name, lambda path: export.tree.symlink(text, path))

    def _mknod(self, call: Call, reader: Reader) -> bytes:
        export, folder = self._handles.file(reader)
        name, kind = self._handles.name(reader), reader.u32()
        if self._handles.told_by_us:
            return self._made_here(export, folder, name, is_folder=False)
        if kind not in (wire.SOCKET, wire.PIPE):
            raise OSError(errno.EPERM, "devices are root's to make")
        wish = wire.read_wish(reader)
        mode = 0o666 if wish.mode is None else wish.mode
        made = stat.S_IFIFO if kind == wire.PIPE else stat.S_IFSOCK

        def make(path: str) -> None:
            export.tree.make_special(path, made, mode)
            self._belongs(export, path, call, wish)

        return self._make(export, folder, name, make)

    def _link(self, _: Call, reader: Reader) -> bytes:
        export, number = self._handles.file(reader)
        other, folder = self._handles.file(reader)
        name = self._handles.name(reader)
        if other is not export:
            raise OSError(errno.EXDEV, "two shares")
        self._lasting.drain()
        path = export.folder(number)[1]
        found, place = export.folder(folder)
        inside = join(place, name)
        with export.tree.known.acting(export.tree.outside(inside)):
            export.tree.link(path, inside)
        export.places.note(folder, [(number, name)])
        return OK + export.after(number) + export.changed(found, folder)

    def _make(self, export: Export, folder: int, name: str, make: Callable[[str], None]) -> bytes:
        found, path = export.folder(folder)
        inside = join(path, name)
        with export.tree.known.acting(export.tree.outside(inside)):
            make(inside)
        return self._made(export, folder, inside, found)

    def _made_here(self, export: Export, folder: int, name: str, *, is_folder: bool) -> bytes:
        """What has that name on this computer, as if the guest had made it now; nothing is made.

        Who acts out what is new here asks for a pipe where it is no folder: of all calls that make a name this one
        alone is followed by no other. The guest's kernel looks the name up neither before nor after it, and lets
        nobody else do so until it is answered, so that nobody there finds nothing.
        """
        found, path = export.folder(folder)
        inside = join(path, name)
        seen = export.tree.see(inside)
        if stat.S_ISDIR(seen.found.st_mode) != is_folder:
            raise OSError(errno.EEXIST, "it is something else by now")
        answer = self._made(export, folder, inside, found)
        if is_folder:  # no time is set behind that, as of what is told as changed
            known = export.tree.known
            known.retold(export.tree.outside(inside), seen.found.st_mtime_ns // 10**9)
        return answer

    def _belongs(self, export: Export, path: str, call: Call, wish: Wish) -> None:
        """To whom the caller wants it to, else to the caller."""
        owner = (
            call.user if wish.user is None else wish.user,
            call.group if wish.group is None else wish.group,
        )
        if owner != (0, 0):
            export.tree.chown(path, owner)

    def _made(self, export: Export, folder: int, inside: str, before: os.stat_result) -> bytes:
        around, _, name = inside.rpartition("/")
        number, told = export.child(folder, around, name)
        return self._answer(export, folder, number, told, before)

    def _answer(self, export: Export, folder: int, number: int, told: bytes, before: os.stat_result) -> bytes:
        handle = u32(1) + opaque(export.handle(number))
        return b"".join((OK, handle, wire.maybe(told), export.changed(before, folder)))
