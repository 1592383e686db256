"""The bytes of an erofs (Linux: fs/erofs/erofs_fs.h, Documentation/filesystems/erofs.rst); pure.

Blocks of 4 KiB, compact inodes of 32 bytes (extended ones of 64 where numbers are too large), one time for all, no
extended attributes. Compressed files have "full" indexes: eight bytes for each 4 KiB of content.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 4096
BLOCK_BITS = 12
SLOT = 32
"""What a node id counts: an inode's place is its number times this, from the start of the metadata."""

MAGIC = 0xE0F5E1E2
SUPERBLOCK_AT = 1024
_COMPAT_MTIME = 0x2
_INCOMPAT_ZERO_PADDING = 0x1
_INCOMPAT_BIG_CLUSTERS = 0x2  # and "configurations of algorithms follow the superblock"
_LZ4 = 0x1
_LZ4_DISTANCE = 65535

PLAIN, COMPRESSED_FULL, INLINE = 0, 1, 2
"""How content lies: blocks in a row; clusters and their index; blocks in a row, the last part behind the inode."""

NOWHERE = 0xFFFFFFFF
"""The address of content that has no block."""

_FILE_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFLNK: 7}
_BIG_CLUSTERS = 0x2  # of a file's map header: its clusters may be longer than a block
_HEAD_PLAIN, _HEAD, _NOT_HEAD = 0, 1, 2
_CLUSTER_LENGTH = 1 << 11  # flag of an index's distance: it is the cluster's blocks instead

_DIRENT = struct.Struct("<QHBB")
_INDEX = struct.Struct("<HHI")
_INDEX_DISTANCES = struct.Struct("<HHHH")


@dataclass(frozen=True, slots=True)
class Inode:
    """One file, folder or link.

    :param mode: type and permission bits, as `st_mode`.
    :param size: bytes of content.
    :param layout: PLAIN, COMPRESSED_FULL or INLINE.
    :param where: the first block of the content, or how many blocks a compressed one takes.
    :param number: what stat(2) tells.
    """

    mode: int
    uid: int
    gid: int
    links: int
    size: int
    layout: int
    where: int
    number: int

    @property
    def is_compact(self) -> bool:
        """Whether 32 bytes hold it."""
        return max(self.uid, self.gid, self.links) <= 0xFFFF and self.size <= 0xFFFFFFFF  # noqa: PLR2004

    def pack(self, time: int) -> bytes:
        """The inode itself.

        :param time: seconds since 1970; a compact one has the superblock's.
        """
        kind = self.layout << 1
        if self.is_compact:
            compact = (kind, 0, self.mode, self.links, self.size, 0, self.where, self.number, self.uid, self.gid, 0)
            return struct.pack("<HHHHIIIIHHI", *compact)
        head = (kind | 1, 0, self.mode, 0, self.size, self.where, self.number, self.uid, self.gid)
        return struct.pack("<HHHHQIIIIQII16x", *head, time, 0, self.links)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A run of content that is stored as one.

    :param length: bytes of content; a whole number of blocks, but for a file's last one.
    :param blocks: that it takes; as many as its content does when it is not compressed.
    :param where: its first block.
    """

    length: int
    blocks: int
    where: int


def pack_clusters(clusters: Sequence[Cluster]) -> bytes:
    """What follows the inode of a compressed file: its map header and an index for each block of content.

    One more index than blocks: a kernel before 6.0 looks at the one behind a last cluster of one block.
    """
    out = bytearray(struct.pack("<IHBB8x", 0, _BIG_CLUSTERS, 0, 0))
    for cluster in clusters:
        parts = -(-cluster.length // BLOCK)
        if cluster.blocks == parts:
            out += b"".join(_INDEX.pack(_HEAD_PLAIN, 0, cluster.where + part) for part in range(parts))
            continue
        out += _INDEX.pack(_HEAD, 0, cluster.where)
        for part in range(1, parts):
            back = cluster.blocks | _CLUSTER_LENGTH if part == 1 else part
            out += _INDEX_DISTANCES.pack(_NOT_HEAD, 0, back, parts - part)
    return bytes(out + _INDEX.pack(_HEAD_PLAIN, 0, 0))


def index_size(size: int) -> int:
    """Bytes that `pack_clusters` makes for `size` bytes of content."""
    return 16 + _INDEX.size * (-(-size // BLOCK) + 1)


def split_folder(names: Sequence[bytes]) -> list[list[bytes]]:
    """A folder's names, sorted as the kernel searches them, a list for each block of it.

    :param names: with "." and "..".
    """
    blocks: list[list[bytes]] = [[]]
    used = 0
    for name in sorted(names):
        need = _DIRENT.size + len(name)
        if used + need > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += need
    return blocks


def folder_size(blocks: Sequence[Sequence[bytes]]) -> int:
    """Bytes of a folder: whole blocks, and the used part of the last."""
    return (len(blocks) - 1) * BLOCK + sum(_DIRENT.size + len(name) for name in blocks[-1])


def pack_folder(blocks: Sequence[Sequence[bytes]], found: dict[bytes, tuple[int, int]]) -> bytes:
    """A folder's content.

    :param blocks: of `split_folder`.
    :param found: by name: node id, mode.
    """
    out = bytearray()
    for names in blocks:
        out += b"\0" * (-len(out) % BLOCK)
        at = len(names) * _DIRENT.size
        for name in names:
            node, mode = found[name]
            out += _DIRENT.pack(node, at, _FILE_TYPES[stat.S_IFMT(mode)], 0)
            at += len(name)
        out += b"".join(names)
    return bytes(out)


def pack_superblock(*, time: int, uuid: bytes, inodes: int, blocks: int, meta: int, cluster_blocks: int) -> bytes:
    """The first block.

    :param time: every inode's, seconds since 1970.
    :param uuid: 16 bytes.
    :param meta: the metadata's first block; the root's inode is the first thing there.
    :param cluster_blocks: of the longest cluster.
    """
    head = struct.pack("<IIIBBHQQIIII", MAGIC, 0, _COMPAT_MTIME, BLOCK_BITS, 0, 0, inodes, time, 0, blocks, meta, 0)
    tail = struct.pack("<IH", _INCOMPAT_ZERO_PADDING | _INCOMPAT_BIG_CLUSTERS, _LZ4)
    superblock = (head + uuid + bytes(16) + tail).ljust(128, b"\0")
    lz4 = struct.pack("<HHH10x", 14, _LZ4_DISTANCE, cluster_blocks)
    return (bytes(SUPERBLOCK_AT) + superblock + lz4).ljust(BLOCK, b"\0")
