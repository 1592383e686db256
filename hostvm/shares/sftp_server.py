"""An SFTP server for one folder, over any two-way stream.

Not paramiko's: that one knows neither hard links, nor fsync, nor statvfs, answers packets one by one, and leaves
confinement to its users. This one answers all requests that have arrived with one write, and reaches files only
through `hostvm.shares.tree`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

from hostvm.shares import sftp_wire as wire
from hostvm.shares.known import CHANGED, DELETED
from hostvm.shares.sftp_wire import Attrs, Reader, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Stream
    from hostvm.shares.known import Known
    from hostvm.shares.tree import Tree

_MOST = 1024 * 1024
_CHUNK = 256 * 1024
_NAMES = 100
_READ_MOST = 256 * 1024
_NOT_FOUND = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class _Handle:
    """An open file, or a folder being listed."""

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
        self.changes = changes  # the file's name here when it was opened for writing
        self.descriptor = descriptor
        self.append = append
        self.names: list[tuple[str, os.stat_result]] | None = None


class SftpServer:
    """Serves one client; `find_tree` gives the share that a path's first name stands for.

    :param find_tree: raises KeyError for a name that is none; that name is the client's proof that it may be here.
    """

    def __init__(self, stream: Stream, find_tree: Callable[[str], Tree]) -> None:
        self._stream = stream
        self._find_tree = find_tree
        self._handles: dict[bytes, _Handle] = {}
        self._count = 0
        self._answers: dict[int, Callable[[int, Reader], bytes]] = {
            wire.OPEN: self._open,
            wire.CLOSE: self._close,
            wire.READ: self._read,
            wire.WRITE: self._write,
            wire.LSTAT: self._lstat,
            wire.STAT: self._lstat,  # the guest follows links; what it asks for is never one that must be followed
            wire.FSTAT: self._fstat,
            wire.SETSTAT: self._setstat,
            wire.FSETSTAT: self._fsetstat,
            wire.OPENDIR: self._opendir,
            wire.READDIR: self._readdir,
            wire.REMOVE: self._remove,
            wire.MKDIR: self._mkdir,
            wire.RMDIR: self._rmdir,
            wire.REALPATH: self._realpath,
            wire.RENAME: self._rename,
            wire.READLINK: self._readlink,
            wire.SYMLINK: self._symlink,
            wire.EXTENDED: self._extended,
        }

    def run(self) -> None:
        """Until the client leaves or the stream breaks; closes what it had open."""
        waiting = bytearray()
        try:
            while data := self._stream.recv(_CHUNK):
                waiting += data
                answers, used = self._answer_all(memoryview(bytes(waiting)))
                del waiting[:used]
                if answers:
                    self._stream.sendall(b"".join(answers))
        except (OSError, WireError):
            return
        finally:
            self._stream.close()
            for handle in self._handles.values():
                if handle.descriptor is not None:
                    os.close(handle.descriptor)
            self._handles.clear()

    def _answer_all(self, data: memoryview) -> tuple[list[bytes], int]:
        """Answers to all whole packets in `data`, and how many bytes those were."""
        answers: list[bytes] = []
        at = 0
        while at + 4 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            if not 1 <= length <= _MOST:
                raise WireError(f"a packet of {length} bytes")
            if at + 4 + length > len(data):
                break
            answers.append(self.answer(data[at + 4 : at + 4 + length]))
            at += 4 + length
        return answers, at

    def answer(self, request: memoryview) -> bytes:
        """The answer to one packet (without its length)."""
        kind, reader = request[0], Reader(request[1:])
        if kind == wire.INIT:
            return wire.version_packet()
        number = reader.u32()
        act = self._answers.get(kind)
        if act is None:
            return wire.status_packet(number, wire.UNSUPPORTED)
        try:
            return act(number, reader)
        except OSError as fault:
            return wire.status_packet(number, _code_of(fault), fault.strerror or str(fault))

    # ---- files

    def _place(self, path: str) -> tuple[Tree, str]:
        token, _, inside = path.lstrip("/").partition("/")
        try:
            return self._find_tree(token), inside
        except KeyError:
            raise OSError(errno.EACCES, "no such share") from None

    def _open(self, number: int, reader: Reader) -> bytes:
        path, wanted, attrs = reader.text(), reader.u32(), reader.attrs()
        tree, inside = self._place(path)
        mode = 0o666 if attrs.mode is None else attrs.mode & 0o7777
        changes = tree.outside(inside) if wanted & (wire.F_WRITE | wire.F_CREAT) else ""
        if wanted & wire.F_CREAT:
            tree.known.foresee(changes, there=True)
        try:
            descriptor = _open_file(tree, inside, wanted, mode)
        finally:
            if wanted & wire.F_CREAT:
                tree.known.learn(changes)
        return self._add(
            number, _Handle(path, descriptor, append=bool(wanted & wire.F_APPEND), known=tree.known, changes=changes)
        )

    def _add(self, number: int, handle: _Handle) -> bytes:
        self._count += 1
        name = b"%x" % self._count
        self._handles[name] = handle
        return wire.packet(wire.HANDLE, number, wire.string(name))

    def _handle(self, reader: Reader) -> _Handle:
        try:
            return self._handles[bytes(reader.data())]
        except KeyError:
            raise OSError(errno.EBADF, "no such handle") from None

    def _file(self, reader: Reader) -> int:
        handle = self._handle(reader)
        if handle.descriptor is None:
            raise OSError(errno.EISDIR, "a folder")
        return handle.descriptor

    def _close(self, number: int, reader: Reader) -> bytes:
        handle = self._handles.pop(bytes(reader.data()), None)
        if handle is not None and handle.descriptor is not None:
            os.close(handle.descriptor)
            if handle.known is not None and handle.changes:
                handle.known.learn(handle.changes)
        return wire.status_packet(number, wire.OK)

    def _read(self, number: int, reader: Reader) -> bytes:
        descriptor, offset, length = self._file(reader), reader.u64(), reader.u32()
        data = _pread(descriptor, min(length, _READ_MOST), offset)
        if not data:
            return wire.status_packet(number, wire.EOF)
        return wire.packet(wire.DATA, number, wire.u32(len(data)), data)

    def _write(self, number: int, reader: Reader) -> bytes:
        handle_name = reader.data()
        handle = self._handles.get(bytes(handle_name))
        offset, data = reader.u64(), reader.data()
        if handle is None or handle.descriptor is None:
            raise OSError(errno.EBADF, "no such handle")
        if handle.append:
            _write_all(handle.descriptor, data)
        else:
            _pwrite_all(handle.descriptor, data, offset)
        return wire.status_packet(number, wire.OK)

    # ---- attributes

    def _lstat(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        try:
            found = tree.stat(inside)
        except FileNotFoundError:
            if tree.known.acting(tree.outside(inside), DELETED):
                return wire.packet(wire.ATTRS, number, wire.EMPTY_FILE)
            raise
        return wire.packet(wire.ATTRS, number, wire.attrs(found, tree.owner(inside)))

    def _fstat(self, number: int, reader: Reader) -> bytes:
        handle = self._handle(reader)
        tree, inside = self._place(handle.path)
        found = tree.stat(inside) if handle.descriptor is None else os.fstat(handle.descriptor)
        return wire.packet(wire.ATTRS, number, wire.attrs(found, tree.owner(inside)))

    def _setstat(self, number: int, reader: Reader) -> bytes:
        path = reader.text()
        self._set(path, reader.attrs())
        return wire.status_packet(number, wire.OK)

    def _fsetstat(self, number: int, reader: Reader) -> bytes:
        handle = self._handle(reader)
        attrs = reader.attrs()
        if attrs.size is not None and handle.descriptor is not None:
            os.ftruncate(handle.descriptor, attrs.size)
            attrs = Attrs(None, attrs.owner, attrs.mode, attrs.times)
        self._set(handle.path, attrs)
        return wire.status_packet(number, wire.OK)

    def _set(self, path: str, attrs: Attrs) -> None:
        tree, inside = self._place(path)
        # What is acted out sets times and nothing else; whatever else comes meanwhile is meant.
        only_times = (attrs.size, attrs.owner, attrs.mode) == (None, None, None)
        if only_times and tree.known.acting(tree.outside(inside), CHANGED, end=True):
            return
        if attrs.size is not None:
            tree.truncate(inside, attrs.size)
        if attrs.owner is not None:
            tree.chown(inside, attrs.owner)
        if attrs.mode is not None:
            tree.chmod(inside, attrs.mode)
        if attrs.times is not None:
            tree.utime(inside, attrs.times)
        tree.known.learn(tree.outside(inside))

    # ---- folders and names

    def _opendir(self, number: int, reader: Reader) -> bytes:
        path = reader.text()
        tree, inside = self._place(path)
        handle = _Handle(path, None)
        handle.names = tree.entries(inside)
        handle.names.reverse()
        return self._add(number, handle)

    def _readdir(self, number: int, reader: Reader) -> bytes:
        handle = self._handle(reader)
        if not handle.names:
            return wire.status_packet(number, wire.EOF)
        tree, inside = self._place(handle.path)
        parts: list[bytes] = []
        while handle.names and len(parts) < _NAMES:
            name, found = handle.names.pop()
            encoded = wire.string(wire.encode(name))
            parts.append(encoded + encoded + wire.attrs(found, tree.owner(f"{inside}/{name}")))
        return wire.packet(wire.NAME, number, wire.u32(len(parts)), *parts)

    def _remove(self, number: int, reader: Reader) -> bytes:
        return self._take_away(number, reader.text(), lambda tree, inside: tree.unlink(inside))

    def _take_away(self, number: int, path: str, act: Callable[[Tree, str], None]) -> bytes:
        tree, inside = self._place(path)
        here = tree.outside(inside)
        if tree.known.acting(here, DELETED, end=True):
            # Made again meanwhile: it stays, whoever it was that wanted it gone.
            return wire.status_packet(number, wire.FAILURE if os.path.lexists(here) else wire.OK)
        tree.known.foresee(here, there=False)
        try:
            act(tree, inside)
        finally:
            tree.known.learn(here)
        return wire.status_packet(number, wire.OK)

    def _mkdir(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        mode = reader.attrs().mode
        here = tree.outside(inside)
        tree.known.foresee(here, there=True)
        try:
            tree.mkdir(inside, 0o777 if mode is None else mode & 0o7777)
        finally:
            tree.known.learn(here)
        return wire.status_packet(number, wire.OK)

    def _rmdir(self, number: int, reader: Reader) -> bytes:
        return self._take_away(number, reader.text(), lambda tree, inside: tree.rmdir(inside))

    def _realpath(self, number: int, reader: Reader) -> bytes:
        name = wire.string(wire.encode(reader.text() or "/"))
        return wire.packet(wire.NAME, number, wire.u32(1), name, name, wire.u32(0))

    def _rename(self, number: int, reader: Reader) -> bytes:
        # The protocol's own rename does not replace; OpenSSH's server looks first, as this does.
        old, new = reader.text(), reader.text()
        tree, inside = self._place(new)
        with contextlib.suppress(FileNotFoundError):
            tree.stat(inside)
            raise FileExistsError(errno.EEXIST, "it exists")
        return self._replace(number, old, new)

    def _replace(self, number: int, old: str, new: str) -> bytes:
        tree, source, target = self._pair(old, new)
        places = tree.outside(source), tree.outside(target)
        tree.known.foresee(places[0], there=False)
        tree.known.foresee(places[1], there=True)
        try:
            tree.rename(source, target)
        finally:
            for place in places:
                tree.known.learn(place)
        return wire.status_packet(number, wire.OK)

    def _pair(self, old: str, new: str) -> tuple[Tree, str, str]:
        (tree, source), (other, target) = self._place(old), self._place(new)
        if tree is not other:
            raise OSError(errno.EXDEV, "two shares")
        return tree, source, target

    def _readlink(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        name = wire.string(wire.encode(tree.readlink(inside)))
        return wire.packet(wire.NAME, number, wire.u32(1), name, name, wire.u32(0))

    def _symlink(self, number: int, reader: Reader) -> bytes:
        text, path = reader.text(), reader.text()  # in OpenSSH's order, which is not the draft's
        tree, inside = self._place(path)
        tree.symlink(text, inside)
        tree.known.learn(tree.outside(inside))
        return wire.status_packet(number, wire.OK)

    # ---- OpenSSH's extensions

    def _extended(self, number: int, reader: Reader) -> bytes:
        name = bytes(reader.data())
        if name == b"posix-rename@openssh.com":
            return self._replace(number, reader.text(), reader.text())
        if name == b"hardlink@openssh.com":
            # sshfs would number both names' files differently, which git takes for damage; told "not permitted"
            # (that is what it makes of a failure), programs copy instead.
            return wire.status_packet(number, wire.FAILURE, "no hard links")
        if name == b"fsync@openssh.com":
            os.fsync(self._file(reader))
            return wire.status_packet(number, wire.OK)
        if name in (b"statvfs@openssh.com", b"fstatvfs@openssh.com"):
            path = reader.text() if name.startswith(b"s") else self._handle(reader).path
            tree, inside = self._place(path)
            return wire.packet(wire.EXTENDED_REPLY, number, wire.statvfs(tree.statvfs(inside)))
        return wire.status_packet(number, wire.UNSUPPORTED)


def _open_file(tree: Tree, inside: str, wanted: int, mode: int) -> int:
    """A descriptor. A new file gets the mode asked for, whatever this process's umask is; an old one keeps its own."""
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


def _code_of(fault: OSError) -> int:
    if fault.errno in _NOT_FOUND:
        return wire.NO_SUCH_FILE
    return wire.PERMISSION_DENIED if fault.errno in _DENIED else wire.FAILURE


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
    return os.pread(descriptor, length, offset)


def _pwrite_all(descriptor: int, data: memoryview, offset: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        _write_all(descriptor, data)
        return
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
