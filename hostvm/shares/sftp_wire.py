"""SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for its extensions)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = range(3, 13)
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(13, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
UNSUPPORTED = 8
FAULT = 16
"""A status that the protocol has not: sshfs makes EIO of it, and of FAILURE EPERM."""

F_READ, F_WRITE, F_APPEND, F_CREAT, F_TRUNC, F_EXCL = 1, 2, 4, 8, 16, 32

A_SIZE, A_OWNER, A_MODE, A_TIMES = 1, 2, 4, 8

EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"hardlink@openssh.com", b"1"),
    (b"fsync@openssh.com", b"1"),
)

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_ATTRS = struct.Struct(">IQIIIII")
_TIME_MOST = 0xFFFFFFFF


class WireError(Exception):
    """The other side does not speak SFTP."""


class Reader:
    """Takes a request's fields in their order. Every method raises WireError where there is nothing left."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def u32(self) -> int:
        """A number of 32 bits."""
        return int(self._unpack(_U32))

    def u64(self) -> int:
        """A number of 64 bits."""
        return int(self._unpack(_U64))

    def data(self) -> memoryview:
        """Bytes, not copied."""
        length = self.u32()
        end = self._at + length
        if end > len(self._data):
            raise WireError("a string beyond its packet")
        found, self._at = self._data[self._at : end], end
        return found

    def text(self) -> str:
        """A name or path; bytes that are not UTF-8 survive as surrogates."""
        return bytes(self.data()).decode("utf-8", "surrogateescape")

    def attrs(self) -> Attrs:
        """Attributes to set; extended ones are read over."""
        flags = self.u32()
        return Attrs(
            size=self.u64() if flags & A_SIZE else None,
            owner=(self.u32(), self.u32()) if flags & A_OWNER else None,
            mode=self.u32() if flags & A_MODE else None,
            times=(self.u32(), self.u32()) if flags & A_TIMES else None,
        )

    def _unpack(self, what: struct.Struct) -> int:
        end = self._at + what.size
        if end > len(self._data):
            raise WireError("a packet that is too short")
        (value,) = what.unpack_from(self._data, self._at)
        self._at = end
        return int(value)


@dataclass(frozen=True, slots=True)
class Attrs:
    """What a request sets; None: left alone. Times are seconds."""

    size: int | None
    owner: tuple[int, int] | None
    mode: int | None
    times: tuple[int, int] | None


def string(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return _U32.pack(len(data)) + data


def encode(text: str) -> bytes:
    """A name or path as bytes, as `Reader.text` reads it."""
    return text.encode("utf-8", "surrogateescape")


def packet(kind: int, number: int, *parts: bytes) -> bytes:
    """One whole answer."""
    body = b"".join(parts)
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def version_packet() -> bytes:
    """The answer to INIT."""
    body = _U32.pack(3) + b"".join(string(name) + string(value) for name, value in EXTENSIONS)
    return struct.pack(">IB", 1 + len(body), VERSION) + body


def status_packet(number: int, code: int, text: str = "") -> bytes:
    """How a request went."""
    return packet(STATUS, number, _U32.pack(code), string(encode(text)), string(b""))


def attrs(found: os.stat_result, owner: tuple[int, int]) -> bytes:
    """What is known of a file; times are whole seconds in this version of the protocol."""
    times = (min(max(when // 10**9, 0), _TIME_MOST) for when in (found.st_atime_ns, found.st_mtime_ns))
    flags = A_SIZE | A_OWNER | A_MODE | A_TIMES
    return _ATTRS.pack(flags, found.st_size, *owner, found.st_mode, *times)


EMPTY_FILE = _ATTRS.pack(A_SIZE | A_OWNER | A_MODE | A_TIMES, 0, 0, 0, 0o100644, 0, 0)
EMPTY_FOLDER = _ATTRS.pack(A_SIZE | A_OWNER | A_MODE | A_TIMES, 0, 0, 0, 0o40755, 0, 0)
"""Attributes of what is not there any more."""


def u32(value: int) -> bytes:
    """A number of 32 bits."""
    return _U32.pack(value)


def statvfs(found: os.statvfs_result) -> bytes:
    """Of statvfs@openssh.com: eleven numbers."""
    return struct.pack(
        ">11Q",
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        getattr(found, "f_fsid", 0) & (2**64 - 1),
        found.f_flag,
        found.f_namemax,
    )
