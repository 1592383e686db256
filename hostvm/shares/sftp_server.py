"""An SFTP server for one folder, over any two-way stream.

Not paramiko's: that one knows neither hard links, nor fsync, nor statvfs, answers packets one by one, and leaves
confinement to its users. This one answers all requests that have arrived with one write, and reaches files only
through `hostvm.shares.tree`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

from hostvm.shares import sftp_wire as wire
from hostvm.shares.fields import WireError, encode
from hostvm.shares.sftp_files import Handle, open_file, read_at, write_all, write_at
from hostvm.shares.sftp_wire import Attrs, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Stream
    from hostvm.shares.tree import Tree

_MOST = 1024 * 1024
_CHUNK = 256 * 1024
_NAMES_BYTES = 64 * 1024
"""Of a folder's names in one answer: sshfs hangs up on an answer of more than 128 KiB."""
_READ_MOST = 256 * 1024
_NOT_FOUND = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENAMETOOLONG})
_HIDDEN = ".fuse_hidden"
"""How libfuse begins the name that it gives to a file that is removed while a program has it open."""


class SftpServer:
    """Serves one client; `find_tree` gives the share that a path's first name stands for.

    :param find_tree: raises KeyError for a name that is none; that name is the client's proof that it may be here.
    """

    def __init__(self, stream: Stream, find_tree: Callable[[str], Tree]) -> None:
        self._stream = stream
        self._find_tree = find_tree
        self._handles: dict[bytes, Handle] = {}
        self._count = 0
        self._sending = threading.Lock()
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
                    self._send(b"".join(answers))
        except (OSError, WireError):
            return
        finally:
            self._stream.close()
            for handle in self._handles.values():
                with contextlib.suppress(OSError):
                    handle.close()
            self._handles.clear()

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._stream.sendall(data)

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
        except ValueError as fault:  # a name that this computer's file names cannot hold
            return wire.status_packet(number, wire.FAILURE, str(fault))

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
        makes = bool(wanted & wire.F_CREAT)
        if changes:
            tree.known.opened(changes)
        try:
            with tree.known.acting(changes) if makes else contextlib.nullcontext():
                descriptor = open_file(tree, inside, wanted, mode)
        except BaseException:
            if changes:
                tree.known.closed(changes, changed=False)
            raise
        return self._add(
            number, Handle(path, descriptor, append=bool(wanted & wire.F_APPEND), known=tree.known, changes=changes)
        )

    def _add(self, number: int, handle: Handle) -> bytes:
        self._count += 1
        name = b"%x" % self._count
        self._handles[name] = handle
        return wire.packet(wire.HANDLE, number, wire.string(name))

    def _handle(self, reader: Reader) -> Handle:
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
        if handle is not None:
            handle.close()
        return wire.status_packet(number, wire.OK)

    def _read(self, number: int, reader: Reader) -> bytes:
        descriptor, offset, length = self._file(reader), reader.u64(), reader.u32()
        data = read_at(descriptor, min(length, _READ_MOST), offset)
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
            write_all(handle.descriptor, data)
        else:
            write_at(handle.descriptor, data, offset)
        return wire.status_packet(number, wire.OK)

    # ---- attributes

    def _lstat(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        try:
            found, owner = tree.look(inside)
        except (FileNotFoundError, NotADirectoryError):
            if kind := tree.known.buried(tree.outside(inside)):
                seen = wire.EMPTY_FOLDER if kind == "folder" else wire.EMPTY_FILE
                return wire.packet(wire.ATTRS, number, seen)
            raise
        tree.known.shown(tree.outside(inside), found.st_mtime_ns // 10**9)
        return wire.packet(wire.ATTRS, number, wire.attrs(found, owner))

    def _fstat(self, number: int, reader: Reader) -> bytes:
        handle = self._handle(reader)
        tree, inside = self._place(handle.path)
        found = tree.stat(inside) if handle.descriptor is None else os.fstat(handle.descriptor)
        tree.known.shown(tree.outside(inside), found.st_mtime_ns // 10**9)
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
        here = tree.outside(inside)
        # What is acted out sets the time that was found and nothing else; whatever else comes meanwhile is meant.
        only_times = (attrs.size, attrs.owner, attrs.mode) == (None, None, None)
        if only_times and attrs.times is not None and tree.known.retold(here, attrs.times[1]):
            return
        with tree.known.setting(here):
            if attrs.size is not None:
                tree.truncate(inside, attrs.size)
            if attrs.owner is not None:
                tree.chown(inside, attrs.owner)
            if attrs.mode is not None:
                tree.chmod(inside, attrs.mode)
            if attrs.times is not None:
                tree.utime(inside, attrs.times)

    # ---- folders and names

    def _opendir(self, number: int, reader: Reader) -> bytes:
        path = reader.text()
        tree, inside = self._place(path)
        handle = Handle(path, None)
        handle.names = tree.entries(inside)
        handle.names.reverse()
        return self._add(number, handle)

    def _readdir(self, number: int, reader: Reader) -> bytes:
        handle = self._handle(reader)
        if handle.names is None:
            raise OSError(errno.ENOTDIR, "not a folder")
        if not handle.names:
            if not handle.ended:
                handle.ended = True
                return wire.status_packet(number, wire.EOF)
            # Asked again after its end (rewinddir; sshfs asks one after the other, see hostvm/shares/mounting.py).
            handle.ended = False
            tree, inside = self._place(handle.path)
            handle.names = tree.entries(inside)[::-1]
        parts: list[bytes] = []
        length = 0
        while handle.names and length < _NAMES_BYTES:
            name, found = handle.names.pop()
            # sshfs takes nothing but the type from here, so that nobody is asked for each one's owner.
            parts.append(wire.string(encode(name)) + wire.string(b"") + wire.attrs(found, (0, 0)))
            length += len(parts[-1])
        if not parts:
            handle.ended = True
            return wire.status_packet(number, wire.EOF)
        return wire.packet(wire.NAME, number, wire.u32(len(parts)), *parts)

    def _remove(self, number: int, reader: Reader) -> bytes:
        return self._take_away(number, reader.text(), lambda tree, inside: tree.unlink(inside))

    def _take_away(self, number: int, path: str, act: Callable[[Tree, str], None]) -> bytes:
        tree, inside = self._place(path)
        here = tree.outside(inside)
        if (done := tree.known.answers_removal(here)) is not None:
            return wire.status_packet(number, wire.OK if done else wire.FAILURE)
        with tree.known.acting(here, removes=True):
            act(tree, inside)
        return wire.status_packet(number, wire.OK)

    def _mkdir(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        mode = reader.attrs().mode
        here = tree.outside(inside)
        with tree.known.acting(here):
            tree.mkdir(inside, 0o777 if mode is None else mode & 0o7777)
        return wire.status_packet(number, wire.OK)

    def _rmdir(self, number: int, reader: Reader) -> bytes:
        return self._take_away(number, reader.text(), lambda tree, inside: tree.rmdir(inside))

    def _realpath(self, number: int, reader: Reader) -> bytes:
        name = wire.string(encode(reader.text() or "/"))
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
        if (
            target.rpartition("/")[2].startswith(_HIDDEN)
            and (done := tree.known.answers_removal(places[0])) is not None
        ):
            return wire.status_packet(number, wire.OK if done else wire.PERMISSION_DENIED)
        try:
            with tree.known.acting(places[0], removes=True), tree.known.acting(places[1]):
                tree.rename(source, target)
        except OSError as fault:
            # sshfs makes EXDEV of a failure here (workaround=renamexdev), upon which programs copy.
            if _code_of(fault) == wire.FAILURE and fault.errno != errno.EXDEV:
                raise OSError(errno.EACCES, fault.strerror) from fault
            raise
        return wire.status_packet(number, wire.OK)

    def _pair(self, old: str, new: str) -> tuple[Tree, str, str]:
        (tree, source), (other, target) = self._place(old), self._place(new)
        if tree is not other:
            raise OSError(errno.EXDEV, "two shares")
        return tree, source, target

    def _readlink(self, number: int, reader: Reader) -> bytes:
        tree, inside = self._place(reader.text())
        name = wire.string(encode(tree.readlink(inside)))
        return wire.packet(wire.NAME, number, wire.u32(1), name, name, wire.u32(0))

    def _symlink(self, number: int, reader: Reader) -> bytes:
        text, path = reader.text(), reader.text()  # in OpenSSH's order, which is not the draft's
        tree, inside = self._place(path)
        here = tree.outside(inside)
        with tree.known.acting(here):
            tree.symlink(text, inside)
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
            # Answers may come in any order: nobody else waits for the disk meanwhile.
            words = (number, os.dup(self._file(reader)))
            threading.Thread(target=self._sync, args=words, name="shares-fsync", daemon=True).start()
            return b""
        if name in (b"statvfs@openssh.com", b"fstatvfs@openssh.com"):
            path = reader.text() if name.startswith(b"s") else self._handle(reader).path
            tree, inside = self._place(path)
            return wire.packet(wire.EXTENDED_REPLY, number, wire.statvfs(tree.statvfs(inside)))
        return wire.status_packet(number, wire.UNSUPPORTED)

    def _sync(self, number: int, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
            code = wire.OK
        except OSError as fault:
            code = _code_of(fault)
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the client has left
            self._send(wire.status_packet(number, code))


def _code_of(fault: OSError) -> int:
    if fault.errno in _NOT_FOUND:
        return wire.NO_SUCH_FILE
    if fault.errno in _FAULTS:
        return wire.FAULT
    return wire.PERMISSION_DENIED if fault.errno in _DENIED else wire.FAILURE
