"""Writing initramfs archives (cpio "newc", Documentation/driver-api/early-userspace/buffer-format.rst).

The kernel unpacks archives that follow each other one after the other, so a machine's own seed is simply
appended to an image's initramfs.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 512
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One entry: the constructors below say what its mode's type bits must be.

    :param path: without a leading slash.
    :param mode: type and permission bits, as `st_mode`.
    :param data: a file's content, or a symbolic link's target.
    :param rdev: major and minor of a device.
    """

    path: str
    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0
    rdev: tuple[int, int] = (0, 0)

    @classmethod
    def file(cls, path: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> CpioEntry:
        """A regular file."""
        return cls(path, stat.S_IFREG | mode, data, uid, gid)

    @classmethod
    def folder(cls, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> CpioEntry:
        """A folder."""
        return cls(path, stat.S_IFDIR | mode, b"", uid, gid)

    @classmethod
    def link(cls, path: str, target: str) -> CpioEntry:
        """A symbolic link."""
        return cls(path, stat.S_IFLNK | 0o777, target.encode())

    @classmethod
    def char_device(cls, path: str, major: int, minor: int, mode: int = 0o600) -> CpioEntry:
        """A character device."""
        return cls(path, stat.S_IFCHR | mode, rdev=(major, minor))


def write_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """One archive, padded to 512 bytes so that another may follow; times are 0, inodes count from 1.

    Entries are written in the order given: a folder must come before what lies in it. Missing folders are
    added (0755, root).
    """
    out = bytearray()
    known: set[str] = set()
    number = 0
    for entry in entries:
        path = entry.path.strip("/")
        parents = [path[:at] for at, char in enumerate(path) if char == "/"]
        for folder in (CpioEntry.folder(parent) for parent in parents if parent not in known):
            number += 1
            _append(out, folder, folder.path, number)
            known.add(folder.path)
        if path in known and stat.S_ISDIR(entry.mode) and entry == CpioEntry.folder(path):
            continue
        known.add(path)
        number += 1
        _append(out, entry, path, number)
    _append(out, CpioEntry(TRAILER, 0), TRAILER, 0)
    out += b"\0" * (-len(out) % BLOCK)
    return bytes(out)


def _append(out: bytearray, entry: CpioEntry, path: str, inode: int) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, entry.uid, entry.gid, links, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    out += b"\0" * (-len(out) % 4)
    out += entry.data
    out += b"\0" * (-len(out) % 4)
