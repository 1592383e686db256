"""Reads an erofs as Linux does (fs/erofs: inode.c, data.c, zmap.c, dir.c), sharing no code with what writes it."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

import lz4.block

BLOCK = 4096
FLAT, FULL_INDEX, INLINE = 0, 1, 2
PLAIN, HEAD, INSIDE = 0, 1, 2


@dataclass
class Found:
    """What a path is.

    :param number: its inode's, the same for hard links.
    :param layout: FLAT, FULL_INDEX or INLINE.
    """

    mode: int
    uid: int
    gid: int
    links: int
    number: int
    layout: int
    content: bytes


class Erofs:
    def __init__(self, data: bytes) -> None:
        self.data = data
        head = struct.unpack_from("<IIIBBHQQIIII16s", data, 1024)
        assert head[0] == 0xE0F5E1E2
        assert (head[3], head[4]) == (12, 0), "blocks of 4 KiB, no further slots"
        self.root, self.inodes, self.time, self.blocks, self.meta, self.uuid = *head[5:8], head[9], head[10], head[12]
        assert self.blocks * BLOCK == len(data)
        assert struct.unpack_from("<IH", data, 1024 + 80) == (3, 1), "lz4, zeros first, long clusters"
        size, distance, self.longest = struct.unpack_from("<HHH", data, 1024 + 128)
        assert (size, distance) == (14, 65535)

    def walk(self) -> dict[str, Found]:
        """Every path, the root as ""."""
        found: dict[str, Found] = {}

        def visit(path: str, node: int, parent: int) -> None:
            item = found[path] = self.inode(node)
            if not stat.S_ISDIR(item.mode):
                return
            names = self.folder(item.content)
            assert (names.pop(b"."), names.pop(b"..")) == ((node, 2), (parent, 2))
            for name, (child, kind) in names.items():
                visit(f"{path}/{os.fsdecode(name)}".lstrip("/"), child, node)
                mode = found[f"{path}/{os.fsdecode(name)}".lstrip("/")].mode
                assert kind == {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFLNK: 7}[stat.S_IFMT(mode)]

        visit("", self.root, self.root)
        return found

    def inode(self, node: int) -> Found:
        at = self.meta * BLOCK + node * 32
        kind, attributes = struct.unpack_from("<HH", self.data, at)
        layout = kind >> 1
        assert attributes == 0
        if kind & 1:
            mode, _, size, where, number, uid, gid, time, _, links = struct.unpack_from(
                "<HHQIIIIQII", self.data, at + 4
            )
            assert time == self.time
            end = at + 64
        else:
            mode, links, size, _, where, number, uid, gid, _ = struct.unpack_from("<HHIIIIHHI", self.data, at + 4)
            end = at + 32
        if layout == FULL_INDEX:
            content = self.clusters(-(-end // 8) * 8, size, where)
        else:
            inline = size % BLOCK if layout == INLINE else 0
            assert not inline or at // BLOCK == (end + inline - 1) // BLOCK, "inline content leaves its inode's block"
            content = self.data[where * BLOCK : where * BLOCK + size - inline] + self.data[end : end + inline]
        assert len(content) == size
        return Found(mode, uid, gid, links, number, layout, content)

    def clusters(self, header: int, size: int, taken: int) -> bytes:
        _, advise, algorithm, bits = struct.unpack_from("<IHBB", self.data, header)
        assert (advise, algorithm, bits) == (2, 0, 0)
        parts = -(-size // BLOCK)
        index = [struct.unpack_from("<HHI", self.data, header + 16 + 8 * part) for part in range(parts + 1)]
        assert index[parts] == (PLAIN, 0, 0)  # what a kernel sees behind a last cluster of one block
        out, part, used = b"", 0, 0
        while part < parts:
            kind, offset, where = index[part]
            assert (kind in (PLAIN, HEAD), offset) == (True, 0)
            end = part + 1
            while end < parts and index[end][0] == INSIDE:
                end += 1
            blocks = 1
            for inside in range(part + 1, end):
                back, ahead = index[inside][2] & 0xFFFF, index[inside][2] >> 16
                assert ahead == end - inside
                if inside == part + 1:
                    assert back & 0x800
                    blocks = back & 0x7FF
                else:
                    assert back == inside - part
            assert blocks <= self.longest
            length = min(size, end * BLOCK) - part * BLOCK
            raw = self.data[where * BLOCK : (where + blocks) * BLOCK]
            if kind == PLAIN:
                assert end == part + 1
                out += raw[:length]
            else:
                packed = raw.lstrip(b"\0")
                assert len(raw) - len(packed) < BLOCK
                out += lz4.block.decompress(packed, uncompressed_size=length)
            part, used = end, used + blocks
        assert used == taken
        return out

    @staticmethod
    def folder(content: bytes) -> dict[bytes, tuple[int, int]]:
        """Nodes and kinds by name; in the order in which the kernel's binary search needs them."""
        found: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(content), BLOCK):
            block = content[start : start + BLOCK]
            count = struct.unpack_from("<QH", block)[1] // 12
            entries = [struct.unpack_from("<QHBB", block, 12 * number) for number in range(count)]
            for number, (node, at, kind, _) in enumerate(entries):
                end = entries[number + 1][1] if number + 1 < count else len(block)
                found[block[at:end].split(b"\0", 1)[0]] = (node, kind)
        assert list(found) == sorted(found)
        return found
