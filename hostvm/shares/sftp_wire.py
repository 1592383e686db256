"""SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for its extensions)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.shares.fields import U32, Fields, decode, encode

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

_ATTRS = struct.Struct(">IQIIIII")
_TIME_MOST = 0xFFFFFFFF


class Reader(Fields):
    """Takes a request's fields in their order."""

    __slots__ = ()

    def data(self) -> memoryview:
        """Bytes with their length before them, not copied."""
        return self.take(self.u32())

    def text(self) -> str:
        """A name or path, see `decode`."""
        return decode(self.data())

    def attrs(self) -> Attrs:
        """Attributes to set; extended ones are read over."""
        flags = self.u32()
        return Attrs(
            size=self.u64() if flags & A_SIZE else None,
            owner=(self.u32(), self.u32()) if flags & A_OWNER else None,
            mode=self.u32() if flags & A_MODE else None,
            times=(self.u32(), self.u32()) if flags & A_TIMES else None,
        )


@dataclass(frozen=True, slots=True)
class Attrs:
    """What a request sets; None: left alone. Times are seconds."""

    size: int | None
    owner: tuple[int, int] | None
    mode: int | None
    times: tuple[int, int] | None


def string(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return U32.pack(len(data)) + data


def packet(kind: int, number: int, *parts: bytes) -> bytes:
    """One whole answer."""
    body = b"".join(parts)
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def version_packet() -> bytes:
    """The answer to INIT."""
    body = U32.pack(3) + b"".join(string(name) + string(value) for name, value in EXTENSIONS)
    return struct.pack(">IB", 1 + len(body), VERSION) + body


def status_packet(number: int, code: int, text: str = "") -> bytes:
    """How a request went."""
    return packet(STATUS, number, U32.pack(code), string(encode(text)), string(b""))


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
    return U32.pack(value)


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
