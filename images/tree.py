"""A file-system tree in memory: names and attributes here, content left where it lies until a tar is written."""

from __future__ import annotations

import fnmatch
import shutil
import stat
import tarfile
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import IO, TYPE_CHECKING, Protocol

from images.disk import CHUNK
from images.errors import ImageError
from images.members import FILE, FOLDER, HARD_LINK, LINK, NAMES, read_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from images.members import Member, Members

LINK_LIMIT = 40  # as the kernel's
_HEAD = 4  # bytes: the longest of those that begin a program
# Debian's merged /usr: base-files ships these links, a few packages still ship files by the old names.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Kind(Enum):
    """What a tree may hold: no devices, no sockets."""

    FILE = "file"
    DIR = "dir"
    LINK = "link"


class Source(Protocol):
    """Has the bytes of a Slice whose file need not be there."""

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` of the Slice, which has as many."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes inside a file of the host.

    :param source: is read instead of the file, which is a name then by which equal ones are known.
    """

    path: Path
    offset: int
    size: int
    source: Source | None = field(default=None, compare=False, repr=False)

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """All of it, or `size` bytes from `start`, as far as it has them."""
        rest = max(self.size - start, 0)
        wanted = rest if size is None else min(size, rest)
        if self.source is not None:
            return self.source.read(start, wanted) if wanted else b""
        with self.path.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(wanted)


def keep_content(stream: IO[bytes], store: Path) -> tuple[Slice | bytes, bytes]:
    """Add what a stream has to the file `store`; where it is there, and its first bytes, which tell programs."""
    head = stream.read(_HEAD)
    with store.open("ab") as file:
        start = file.tell()
        file.write(head)
        shutil.copyfileobj(stream, file, CHUNK)
        size = file.tell() - start
    # Two that are empty would be one place, which makes them hard links of each other.
    return Slice(store, start, size) if size else b"", head


@dataclass(frozen=True, slots=True)
class Node:
    """One name's attributes; two files with the same Slice are hard links of each other.

    :param origin: whose it is, for messages.
    """

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    content: Slice | bytes = b""
    origin: str = ""

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """The file's content, or `size` bytes of it from `start`, as far as it has them."""
        if isinstance(self.content, bytes):
            return self.content[start : None if size is None else start + size]
        return self.content.read(start, size)

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size


@dataclass(slots=True)
class Tree:
    """Paths are relative, "/"-separated, without a leading slash; the root itself is "".

    :param newest: the latest time of anything in the packages added, seconds since 1970: a date that depends on
        nothing but the packages.
    """

    nodes: dict[str, Node] = field(default_factory=lambda: {"": Node(Kind.DIR, 0o755)})
    newest: int = 0

    def add_file(self, path: str, data: bytes | Slice, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Add or replace a file; missing folders are made (0755, root)."""
        self.put(path, Node(Kind.FILE, mode, uid, gid, content=data, origin="recipe"))

    def add_dir(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Add a folder, or give an existing one these attributes."""
        self.put(path, Node(Kind.DIR, mode, uid, gid, origin="recipe"))

    def add_link(self, path: str, target: str) -> None:
        """Add or replace a symbolic link."""
        self.put(path, Node(Kind.LINK, 0o777, target=target, origin="recipe"))

    def put(self, path: str, node: Node) -> str:
        """Place a node where its path leads through links already there; returns that place.

        A folder keeps the children it has; a folder that is a link to a folder stays the link.

        :raises ImageError: the path leaves the tree or goes through a file.
        """
        parent, _, name = check_path(path).rpartition("/")
        folder = self.resolve(parent)
        self._make_folders(folder)
        place = f"{folder}/{name}" if folder else name
        old = self.nodes.get(place)
        if node.kind is Kind.DIR and old is not None and old.kind is Kind.LINK:
            place = self.resolve(place)
            self._make_folders(place)
            return place
        replaced = old is not None and old.kind is Kind.DIR and node.kind is not Kind.DIR
        if replaced and any(other.startswith(f"{place}/") for other in self.nodes):
            raise ImageError(
                f"{place} is a folder with content and a {node.kind.value} at once",
                f"{node.origin} has the {node.kind.value}.",
                "Correct the recipe, then `hostvm image build`",
            )
        self.nodes[place] = node
        return place

    def resolve(self, path: str) -> str:
        """Follow links in `path`, as inside a chroot; names that do not exist stay as they are.

        :raises ImageError: too many links, or a file where a folder must be.
        """
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        budget = LINK_LIMIT
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([*done, part])
            node = self.nodes.get(here)
            if node is None or node.kind is Kind.DIR:
                done.append(part)
            elif node.kind is Kind.LINK and budget:
                budget -= 1
                if node.target.startswith("/"):
                    done.clear()
                todo += [step for step in reversed(node.target.split("/")) if step not in ("", ".")]
            elif node.kind is Kind.FILE and not todo:
                done.append(part)
            else:
                raise ImageError(f"/{path} cannot be reached", f"/{here} is in the way.", "Correct the recipe")
        return "/".join(done)

    def get(self, path: str) -> Node | None:
        """The node that `path` leads to, links followed."""
        return self.nodes.get(self.resolve(path.strip("/")))

    def file(self, path: str) -> Node:
        """The file that `path` leads to, links followed.

        :raises ImageError: there is no such file.
        """
        node = self.get(path)
        if node is None or node.kind is not Kind.FILE:
            raise ImageError(f"the image lacks /{path.strip('/')}", None, "Add the package that ships it")
        return node

    def read(self, path: str) -> bytes:
        """A file's content. Raises as `file`."""
        return self.file(path).read()

    def chmod(self, path: str, mode: int) -> None:
        """Set a node's permission bits, and with it those of its other names, if it has some.

        :raises ImageError: there is no such node.
        """
        place = self.resolve(path.strip("/"))
        if place not in self.nodes:
            raise ImageError(f"the image lacks /{path.strip('/')}", "Its mode cannot be set.", "Correct `modes`")
        content = self.nodes[place].content
        linked = isinstance(content, Slice)  # bytes are of a recipe's file, which has one name
        names = [name for name, node in self.nodes.items() if linked and node.content == content]
        for name in names or [place]:
            self.nodes[name] = replace(self.nodes[name], mode=mode)

    def remove(self, doomed: Callable[[str], bool]) -> int:
        """Drop every node, folders with their content, whose path `doomed` says so; returns how many."""
        roots = {path for path in self.nodes if path and doomed(path)}
        gone = [path for path in self.nodes if path in roots or _below(path, roots)]
        for path in gone:
            del self.nodes[path]
        return len(gone)

    def drop(self, globs: Iterable[str]) -> int:
        """Drop what matches shell patterns (`*` matches `/` too); a leading "/" is ignored."""
        patterns = [pattern.strip("/") for pattern in globs]
        return self.remove(lambda path: any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns))

    def size(self) -> int:
        """Bytes of all contents, hard links counted once."""
        seen: set[Slice] = set()
        total = 0
        for node in self.nodes.values():
            if isinstance(node.content, Slice):
                if node.content in seen:
                    continue
                seen.add(node.content)
            total += node.size
        return total

    def _make_folders(self, path: str) -> None:
        while path and path not in self.nodes:
            self.nodes[path] = Node(Kind.DIR, 0o755)
            path = path.rpartition("/")[0]
        if self.nodes[path].kind is not Kind.DIR:
            raise ImageError(f"/{path} is not a folder", "Something else must lie in it.", "Correct the recipe")


def check_path(path: str) -> str:
    """Normalise a member's name: "./usr/bin/" becomes "usr/bin".

    :raises ImageError: it is empty, absolute in disguise, or climbs out.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise ImageError(f"a file name leaves the tree: {path!r}", None, "Do not use this package or archive")
    return "/".join(parts)


def _below(path: str, roots: set[str]) -> bool:
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in roots:
            return True
    return False


def add_package(tree: Tree, data_tar: Path, origin: str, way_out: str = "") -> list[str]:
    """`add_members` of an unpacked data.tar."""
    return add_members(tree, read_members(data_tar), data_tar, origin, way_out=way_out)


def add_members(
    tree: Tree,
    members: Members,
    data_tar: Path,
    origin: str,
    sources: Mapping[int, Source] | None = None,
    way_out: str = "",
) -> list[str]:
    """Add a package's files; returns its paths as the package names them.

    :param data_tar: has their content, but for what `sources` has, by its offset there.
    :param way_out: what to do about a device or the like; without it: not to take `origin`.
    :raises ImageError: a device, a name that leaves the tree, or a file that another package has.
    """
    places: dict[str, str] = {}
    names: list[str] = []
    tree.newest = max(tree.newest, members.newest)
    for member in members.entries:
        name = check_path(member.name)
        names.append(name)
        if not name:
            continue
        content = Slice(data_tar, member.offset, member.size, (sources or {}).get(member.offset))
        node = _node(tree, member, content, origin, places)
        if node is None:
            raise ImageError(
                f"/{name} of {origin} is neither file, folder nor link",
                f"tar type {member.type.encode('latin-1')!r}",
                way_out or f"Leave {origin} out of the recipe, then `hostvm image build`",
            )
        old = tree.nodes.get(tree.resolve(_merged(name))) if node.kind is Kind.FILE else None
        if old is not None and old.kind is Kind.FILE and old.origin not in ("", origin):
            _check_same(name, old, node)
        places[name] = tree.put(_merged(name), node)
    return names


def _node(tree: Tree, member: Member, content: Slice, origin: str, places: dict[str, str]) -> Node | None:
    mode = stat.S_IMODE(member.mode)
    if member.type == FOLDER:
        return Node(Kind.DIR, mode, member.uid, member.gid, origin=origin)
    if member.type == LINK:
        return Node(Kind.LINK, 0o777, member.uid, member.gid, target=member.target, origin=origin)
    if member.type == FILE:
        return Node(Kind.FILE, mode, member.uid, member.gid, content=content, origin=origin)
    if member.type == HARD_LINK:
        first = tree.nodes.get(places.get(check_path(member.target), ""))
        if first is not None and first.kind is not Kind.DIR:
            return first  # of a link: another one that leads to the same
    return None


def merge_usr(tree: Tree) -> None:
    """Links of the merged /usr for suites whose base-files has folders in their place (before Debian 13)."""
    for name in MERGED:
        node = tree.nodes.get(name)
        if f"usr/{name}" in tree.nodes and (node is None or node.kind is Kind.DIR):
            tree.nodes.pop(name, None)
            tree.add_link(name, f"usr/{name}")


def _merged(name: str) -> str:
    return f"usr/{name}" if "/" in name and name.split("/", 1)[0] in MERGED else name


def _check_same(name: str, old: Node, new: Node) -> None:
    if old.read() != new.read():
        raise ImageError(
            f"two packages ship different /{name}",
            f"{old.origin} and {new.origin}",
            "Leave one of them out of the recipe",
        )


def write_tar(tree: Tree, out: IO[bytes], mtime: int, advance: Callable[[int], None] = lambda _n: None) -> None:
    """Write the tree as a tar: sorted, every time `mtime` (seconds since 1970), numeric owners only.

    The same tree gives the same bytes.
    """
    first: dict[Slice, str] = {}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding=NAMES) as tar:
        for path in sorted(tree.nodes, key=lambda name: name.split("/")):
            node = tree.nodes[path]
            info = tarfile.TarInfo(f"./{path}" if path else ".")
            info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, mtime
            if node.kind is Kind.DIR:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif node.kind is Kind.LINK:
                info.type, info.linkname = tarfile.SYMTYPE, node.target
                tar.addfile(info)
            else:
                _write_file(tar, info, node, first)
                advance(node.size)


def _write_file(tar: tarfile.TarFile, info: tarfile.TarInfo, node: Node, first: dict[Slice, str]) -> None:
    import io

    if isinstance(node.content, bytes):
        info.size = len(node.content)
        tar.addfile(info, io.BytesIO(node.content))
    elif node.content in first:
        info.type, info.linkname = tarfile.LNKTYPE, first[node.content]
        tar.addfile(info)
    else:
        first[node.content] = info.name
        info.size = node.content.size
        with node.content.path.open("rb") as file:
            file.seek(node.content.offset)
            tar.addfile(info, file)
