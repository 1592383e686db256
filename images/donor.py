"""The stored image that a build takes what is unchanged from, so as not to unpack and pack it again.

Which content a file has is told by its package's sha256, which the signed index promises, and its place in the package.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from images.deb import unpack_data
from images.disk import disk_full_explained
from images.erofs import FormerRoot, Stored
from images.members import FILE, Members
from images.origins import ORIGINS, Origin, read_origins
from images.store import ROOT, list_images
from images.tree import Slice, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from images.archive import Package
    from images.progress import Progress
    from images.store import Image
    from images.tree import Tree


@dataclass(slots=True)
class Donor:
    """An image whose root is open, and compared with its manifest.

    :param plain: modules of what was lent, decompressed; see `ModuleSet`.
    """

    image: Image
    root: FormerRoot
    origins: Mapping[str, Origin]
    plain: dict[Slice, Slice] = field(default_factory=dict)

    def lend(self, sha256: str, deb: Path, data: Path) -> tuple[Members, dict[int, Source]] | None:
        """A package's files, and what has their content; None of a package that this image has not.

        :param data: where the package's data.tar would be decompressed; it will be if what is not in the root is read.
        """
        origin = self.origins.get(sha256)
        if origin is None:
            return None
        unread = _Unread(deb, data)
        sources: dict[int, Source] = {}
        for member in origin.members.entries:
            if member.type != FILE:
                continue
            at, place = member.offset, origin.places.get(member.offset)
            sources[at] = Stored(self.root, place, member.size) if place else _Part(unread, at)
            if at in origin.plain:
                place, size = origin.plain[at]
                stored = Stored(self.root, place, size)
                self.plain[Slice(data, at, member.size)] = Slice(data.with_suffix(".plain"), at, size, stored)
        return origin.members, sources


@contextmanager
def open_donor(cache: Path, packages: Sequence[Package], facts: Mapping[str, Any]) -> Iterator[Donor | None]:
    """The sound image with the most bytes of these packages, if one was built here that has any.

    :param facts: see `write_origins`.
    """
    wanted = {package.sha256: package.size for package in packages}

    def common(image: Image) -> int:
        return sum(wanted.get(package["sha256"], 0) for package in image.manifest["packages"])

    built_here = [image for image in list_images(cache) if (image.path / ORIGINS).is_file()]
    for image in sorted(built_here, key=common, reverse=True):
        origins = read_origins(image, facts) if common(image) else None
        if origins is not None and (file := _open_sound(image)) is not None:
            with file:
                yield Donor(image, FormerRoot(file), origins)
            return
    yield None


def _open_sound(image: Image) -> IO[bytes] | None:
    """An image's root, every byte of it compared; what is read later is of this very file."""
    with ExitStack() as stack, suppress(OSError):  # it is removed meanwhile, or the disk does not read it any more
        file = stack.enter_context(image.root.open("rb"))
        if hashlib.file_digest(file, "sha256").hexdigest() == image.manifest["files"][ROOT]["sha256"]:
            stack.pop_all()
            return file
    return None


def unpack_unread(tree: Tree, progress: Progress) -> None:
    """Decompress, some at a time, the packages of which a tree has something that its donor has not.

    :raises DiskFullError: no space beside them.
    """
    contents = (node.content for node in tree.nodes.values())
    sources = (content.source for content in contents if isinstance(content, Slice) and content.size)
    found = {source.package for source in sources if isinstance(source, _Part)}
    sizes = {package: package.deb.stat().st_size for package in found if not package.data.exists()}
    if not sizes:
        return

    def one(package: _Unread) -> None:
        package.unpack()
        task.advance(sizes[package])

    with (
        progress.task("unpacking what was left out there", sum(sizes.values()), "B") as task,
        ThreadPoolExecutor(os.cpu_count() or 2, "unpack") as pool,
    ):
        list(pool.map(one, sorted(sizes, key=lambda package: -sizes[package])))


@dataclass(frozen=True, slots=True)
class _Unread:
    """A package that is decompressed when something of it is read."""

    deb: Path
    data: Path

    def read(self, offset: int, size: int) -> bytes:
        if not self.data.exists():
            self.unpack()
        return Slice(self.data, offset, size).read()

    def unpack(self) -> None:
        made = self.data.with_suffix(".made")
        with disk_full_explained(self.data.parent):
            unpack_data(self.deb, made)
            made.replace(self.data)


@dataclass(frozen=True, slots=True)
class _Part:
    """One content of such a package."""

    package: _Unread
    offset: int

    def read(self, start: int, size: int) -> bytes:
        return self.package.read(self.offset + start, size)
