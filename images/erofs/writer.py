"""From a tree to an erofs: the superblock, what files hold, the metadata, what large folders hold.

Content is written as it is compressed; where things are is known then, so that the metadata comes after it.
"""

from __future__ import annotations

import stat
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from images.erofs import ondisk
from images.erofs.clusters import CHUNK, MAX_BLOCKS, compress_all
from images.erofs.ondisk import BLOCK, COMPRESSED_FULL, INLINE, NOWHERE, PLAIN, SLOT, Cluster, Inode
from images.erofs.stored import Place, Stored
from images.errors import ImageError
from images.tree import Kind, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from images.tree import Node, Tree

_TYPES = {Kind.FILE: stat.S_IFREG, Kind.DIR: stat.S_IFDIR, Kind.LINK: stat.S_IFLNK}
_NAME_MOST, _TARGET_MOST = 255, 4095  # bytes: limits.h NAME_MAX, and PATH_MAX without the zero
_HOLES = 16  # blocks of metadata whose ends are kept for what fits there


def packed_by() -> str:
    """What decides the bytes besides the tree: lz4's name and version."""
    from lz4 import library_version_string

    return f"lz4 {library_version_string()}"


def write_erofs(
    tree: Tree,
    out: IO[bytes],
    *,
    time: int,
    uuid: UUID,
    level: int | None,
    advance: Callable[[int], None] = lambda _n: None,
    placed: Callable[[Slice, Place], None] = lambda _content, _place: None,
) -> int:
    """Write the file system to the empty file `out`; returns its size in bytes. The same tree gives the same bytes.

    Content that is `Stored` in another one, packed by the same lz4 and at the same level, is taken as it is there.

    :param time: every file's, seconds since 1970.
    :param level: see `compress_all`.
    :param advance: is told bytes of content that are done.
    :param placed: is told at the end where each Slice is in `out`.
    :raises ImageError: a name or a link's target that no Linux takes.
    """
    items = _collect(tree)
    out.write(bytes(BLOCK))
    _write_content([item for item in items if item.wants_blocks], out, level, advance)
    meta = out.tell() // BLOCK
    end = _place(items)
    folders = [item for item in items if item.blocks and item.layout == PLAIN]
    after = meta + -(-end // BLOCK)
    for item in folders:
        item.where = after
        after += -(-item.size // BLOCK)
    _write_metadata(items, out, meta, end, time)
    for item in folders:
        _write_blocks(out, _folder_content(item))
    out.seek(0)
    superblock = ondisk.pack_superblock(
        time=time, uuid=uuid.bytes, inodes=len(items), blocks=after, meta=meta, cluster_blocks=MAX_BLOCKS
    )
    out.write(superblock)
    for item in items:
        if isinstance(item.node.content, Slice) and item.size:
            placed(item.node.content, item.place(meta))
    return after * BLOCK


@dataclass(slots=True)
class _Item:
    """An inode on its way.

    :param blocks: of a folder: its names, by block.
    :param children: of a folder, by name, itself and its parent included.
    :param at: its place in the metadata, in bytes.
    """

    node: Node
    number: int
    size: int
    links: int = 1
    layout: int = INLINE
    where: int = NOWHERE
    at: int = 0
    clusters: list[Cluster] = field(default_factory=list)
    children: dict[bytes, _Item] = field(default_factory=dict)
    blocks: list[list[bytes]] = field(default_factory=list)

    @property
    def mode(self) -> int:
        return _TYPES[self.node.kind] | self.node.mode

    @property
    def inode(self) -> Inode:
        node = self.node
        return Inode(self.mode, node.uid, node.gid, self.links, self.size, self.layout, self.where, self.number)

    @property
    def inode_size(self) -> int:
        return SLOT if self.inode.is_compact else 2 * SLOT

    @property
    def fits_behind_inode(self) -> bool:
        """Whether all of its content does: the kernel wants that in one block with the inode."""
        return self.inode_size + self.size <= BLOCK

    @property
    def wants_blocks(self) -> bool:
        return self.node.kind is not Kind.DIR and not self.fits_behind_inode

    @property
    def stored(self) -> Stored | None:
        """The content as another file system has it in blocks."""
        source = self.node.content.source if isinstance(self.node.content, Slice) else None
        return source if isinstance(source, Stored) and source.place.layout != INLINE else None

    def place(self, meta: int) -> Place:
        """Where the content is, once it is written.

        :param meta: the metadata's first block.
        """
        if self.layout == COMPRESSED_FULL:
            blocks = tuple(cluster.blocks for cluster in self.clusters)
            return Place(self.layout, self.clusters[0].where * BLOCK, blocks)
        if self.layout == PLAIN:
            return Place(self.layout, self.where * BLOCK)
        return Place(self.layout, meta * BLOCK + self.at + self.inode_size)


def _collect(tree: Tree) -> list[_Item]:
    """An item for each inode, the root first; names of one Slice are one."""
    items: list[_Item] = []
    by_path: dict[str, _Item] = {}
    by_content: dict[Slice, _Item] = {}
    for path in sorted(tree.nodes, key=lambda name: name.split("/") if name else []):
        node = tree.nodes[path]
        known = by_content.get(node.content) if isinstance(node.content, Slice) else None
        if known is not None:
            known.links += 1
            item = known
        else:
            item = _Item(node, len(items) + 1, len(_bytes(node.target)) if node.kind is Kind.LINK else node.size)
            if not item.size:
                item.layout = PLAIN
            items.append(item)
            if isinstance(node.content, Slice):
                by_content[node.content] = item
        by_path[path] = item
        if path:
            parent, _, name = path.rpartition("/")
            _adopt(by_path[parent], item, name, path)
        if node.kind is Kind.DIR:
            item.links = 2
            item.children = {b".": item, b"..": by_path[path.rpartition("/")[0]]}
            if path:
                by_path[path.rpartition("/")[0]].links += 1
    for item in items:
        if item.node.kind is Kind.DIR:
            item.blocks = ondisk.split_folder(list(item.children))
            item.size = ondisk.folder_size(item.blocks)
            item.layout = INLINE if item.fits_behind_inode else PLAIN
    return items


def _adopt(parent: _Item, item: _Item, name: str, path: str) -> None:
    encoded = _bytes(name)
    why = ""
    if len(encoded) > _NAME_MOST:
        why = f"Its name has {len(encoded)} bytes; Linux takes {_NAME_MOST}."
    elif item.node.kind is Kind.LINK and not 0 < item.size <= _TARGET_MOST:
        why = f"It is a link to a path of {item.size} bytes; Linux takes 1 to {_TARGET_MOST}."
    if why:
        raise ImageError(
            f"/{path} cannot be stored", why, "Leave it out of the recipe, then `hostvm image build` again"
        )
    parent.children[encoded] = item


def _write_content(items: list[_Item], out: IO[bytes], level: int | None, advance: Callable[[int], None]) -> None:
    """Files that need blocks, compressed where that saves one."""
    with (
        closing(chunk for item in items if item.stored is None for chunk in _chunks(item.node)) as chunks,
        closing(compress_all(chunks, level)) as packed,
    ):
        for item in items:
            start = out.tell()
            for length, blocks in item.stored.clusters() if item.stored else _take(packed, item.size):
                where = out.tell() // BLOCK
                written = _write_blocks(out, blocks)
                item.clusters.append(Cluster(length, written, where))
                advance(length)
            taken = sum(cluster.blocks for cluster in item.clusters)
            if taken < -(-item.size // BLOCK):
                item.layout, item.where = COMPRESSED_FULL, taken
            else:  # as it is then: read without an index, and its blocks are in a row already
                item.layout, item.where, item.clusters = PLAIN, start // BLOCK, []


def _take(packed: Iterator[tuple[bytes, bytes | None]], size: int) -> Iterator[tuple[int, bytes]]:
    """Of the next content of `size` bytes each cluster's length, and what is stored of it."""
    for _ in range(-(-size // CHUNK)):
        chunk, cluster = next(packed)
        yield len(chunk), chunk if cluster is None else cluster


def _chunks(node: Node) -> Iterator[bytes]:
    content = _bytes(node.target) if node.kind is Kind.LINK else node.content
    if isinstance(content, bytes):
        yield from (content[at : at + CHUNK] for at in range(0, len(content), CHUNK))
        return
    if content.source is not None:
        yield from (content.read(at, CHUNK) for at in range(0, content.size, CHUNK))
        return
    left = node.size
    with content.path.open("rb") as file:
        file.seek(content.offset)
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise ImageError(f"{content.path} became shorter", node.origin or None, "Try again")
            left -= len(chunk)
            yield chunk


def _write_blocks(out: IO[bytes], data: bytes) -> int:
    blocks = -(-len(data) // BLOCK)
    out.write(data.ljust(blocks * BLOCK, b"\0"))
    return blocks


def _place(items: Iterable[_Item]) -> int:
    """Give each inode, with what follows it, a place in the metadata; returns the metadata's length in bytes.

    What lies behind an inode in its block must not leave it; indexes may.
    """
    end = 0
    holes: list[tuple[int, int]] = []  # place, bytes
    for item in items:
        if item.layout == COMPRESSED_FULL:
            need = item.inode_size + ondisk.index_size(item.size)
        else:
            need = item.inode_size + (item.size if item.layout == INLINE else 0)
        need += -need % SLOT
        fitting = next((number for number, hole in enumerate(holes) if hole[1] >= need), None)
        if fitting is not None:
            item.at, room = holes.pop(fitting)
            if room > need:
                holes.insert(fitting, (item.at + need, room - need))
            continue
        room = -end % BLOCK
        if item.layout == INLINE and need > room > 0:
            holes = [*holes, (end, room)][-_HOLES:]
            end += room
        item.at = end
        end += need
    return end


def _write_metadata(items: Iterable[_Item], out: IO[bytes], meta: int, end: int, time: int) -> None:
    area = bytearray(end + -end % BLOCK)
    for item in items:
        data = item.inode.pack(time)
        if item.layout == COMPRESSED_FULL:
            data += ondisk.pack_clusters(item.clusters)
        elif item.layout == INLINE:
            data += _content(item)
        area[item.at : item.at + len(data)] = data
    out.seek(meta * BLOCK)
    out.write(area)


def _content(item: _Item) -> bytes:
    if item.node.kind is Kind.DIR:
        return _folder_content(item)
    return _bytes(item.node.target) if item.node.kind is Kind.LINK else item.node.read()


def _bytes(name: str) -> bytes:
    """As it was in its package, where it need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def _folder_content(item: _Item) -> bytes:
    found = {name: (child.at // SLOT, child.mode) for name, child in item.children.items()}
    return ondisk.pack_folder(item.blocks, found)
