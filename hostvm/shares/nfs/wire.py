"""NFS version 3's and MOUNT version 3's numbers and structures (RFC 1813)."""

from __future__ import annotations

import errno
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.shares.nfs.xdr import u32

if TYPE_CHECKING:
    import os

    from hostvm.shares.nfs.xdr import Reader

NFS, MOUNT, VERSION = 100003, 100005, 3

(
    NULL, GETATTR, SETATTR, LOOKUP, ACCESS, READLINK, READ, WRITE, CREATE, MKDIR, SYMLINK,
    MKNOD, REMOVE, RMDIR, RENAME, LINK, READDIR, READDIRPLUS, FSSTAT, FSINFO, PATHCONF, COMMIT,
) = range(22)  # fmt: skip
MOUNT_NULL, MOUNT_MNT, MOUNT_DUMP, MOUNT_UMNT, MOUNT_UMNT_ALL, MOUNT_EXPORT = range(6)

OK = 0
STALE, NOT_SYNC, TOO_SMALL = 70, 10002, 10005
SERVER_FAULT = 10006
JUKEBOX = 10008
"""Ask again in a while."""
AUTH_SYS = 1

UNCHECKED, GUARDED, EXCLUSIVE = range(3)
UNSTABLE, DATA_SYNC, FILE_SYNC = range(3)
MAY_READ, MODIFY, EXTEND, DELETE = 1, 4, 8, 16
"""Bits of ACCESS."""

HANDLE_MOST, NAME_MOST, PATH_MOST = 64, 255, 4096
LARGEST = 1024 * 1024
"""Bytes of one READ or WRITE."""

TYPES = {
    stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFBLK: 3, stat.S_IFCHR: 4,
    stat.S_IFLNK: 5, stat.S_IFSOCK: 6, stat.S_IFIFO: 7,
}  # fmt: skip
FILE, SOCKET, PIPE = 1, 6, 7

_CODES = {
    getattr(errno, name): code
    for name, code in (
        ("EPERM", 1), ("ENOENT", 2), ("EIO", 5), ("ENXIO", 6), ("EACCES", 13), ("EEXIST", 17), ("EXDEV", 18),
        ("ENODEV", 19), ("ENOTDIR", 20), ("EISDIR", 21), ("EINVAL", 22), ("EFBIG", 27), ("ENOSPC", 28), ("EROFS", 30),
        ("EMLINK", 31), ("ENAMETOOLONG", 63), ("ENOTEMPTY", 66), ("EDQUOT", 69), ("ESTALE", STALE),
        ("ELOOP", 22), ("EMFILE", JUKEBOX), ("ENFILE", JUKEBOX),
        # What a file system cannot do is EPERM on Linux, too. NFS3ERR_NOTSUPP is "Unknown error 524" to programs.
        ("EOPNOTSUPP", 1), ("ENOTSUP", 1), ("ENOSYS", 1),
        # Version 3 has no words for these; Linux's server says the same to such clients.
        ("EBUSY", 13), ("ETXTBSY", 13),
    )
    if hasattr(errno, name)
}  # fmt: skip
_IO = 5

_ATTRIBUTES = struct.Struct(">5I2Q2I2Q6I")
_BEFORE = struct.Struct(">Q4I")
_NANO = 10**9
_TIME_MOST = 0xFFFFFFFF * _NANO + _NANO - 1


def code_of(fault: OSError) -> int:
    """The status that says the same."""
    return _CODES.get(fault.errno or 0, _IO)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call sets; None: left alone. Times are nanoseconds, `NOW` the server's own time."""

    mode: int | None = None
    user: int | None = None
    group: int | None = None
    size: int | None = None
    accessed: int | None = None
    modified: int | None = None


NOW = -1


def read_wish(reader: Reader) -> Wish:
    """`sattr3`."""
    mode, user, group = (reader.u32() if reader.u32() == 1 else None for _ in range(3))
    size = reader.u64() if reader.u32() == 1 else None
    return Wish(mode, user, group, size, _read_time(reader), _read_time(reader))


def _read_time(reader: Reader) -> int | None:
    how = reader.u32()
    if how == 2:  # noqa: PLR2004 - SET_TO_CLIENT_TIME
        return reader.u32() * _NANO + reader.u32()
    return NOW if how else None


def _time(nanoseconds: int) -> tuple[int, int]:
    """`nfstime3`, which begins in 1970 and ends in 2106; what is outside is told as the nearer end."""
    return divmod(min(max(nanoseconds, 0), _TIME_MOST), _NANO)


def attributes(found: os.stat_result, owner: tuple[int, int], system: int, number: int) -> bytes:
    """`fattr3`.

    :param system: of the file system that the guest takes it for.
    :param number: of the file in it.
    """
    return _ATTRIBUTES.pack(
        TYPES.get(stat.S_IFMT(found.st_mode), 1),
        stat.S_IMODE(found.st_mode),
        found.st_nlink or 1,
        *owner,
        found.st_size,
        getattr(found, "st_blocks", -(-found.st_size // 512)) * 512,
        0,
        0,
        system,
        number,
        *_time(found.st_atime_ns),
        *_time(found.st_mtime_ns),
        *_time(found.st_ctime_ns),
    )


def mode_of(told: bytes) -> int:
    """The permission bits in a `fattr3`."""
    return int(_ATTRIBUTES.unpack(told)[1])


def ghost(kind: str, system: int, number: int) -> bytes:
    """`fattr3` of what is not there any more.

    :param kind: file or folder.
    """
    shape, mode = (2, 0o755) if kind == "folder" else (1, 0o644)
    return _ATTRIBUTES.pack(shape, mode, 1, 0, 0, 0, 0, 0, 0, system, number, 0, 0, 0, 0, 0, 0)


def maybe(attributes_: bytes | None) -> bytes:
    """`post_op_attr`."""
    return u32(0) if attributes_ is None else u32(1) + attributes_


def before(found: os.stat_result | None) -> bytes:
    """`pre_op_attr`: by it the guest knows whether somebody else changed the file since it last looked."""
    if found is None:
        return u32(0)
    return u32(1) + _BEFORE.pack(found.st_size, *_time(found.st_mtime_ns), *_time(found.st_ctime_ns))
