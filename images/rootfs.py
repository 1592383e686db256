"""From packages and a recipe to the tree that becomes an image's root."""

from __future__ import annotations

import fnmatch
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from images.accounts import add_accounts
from images.deb import unpack_data
from images.disk import disk_full_explained, require_space
from images.downloads import files_of
from images.errors import RecipeError
from images.initramfs import own_files, own_mode, own_paths
from images.members import Members, read_members
from images.recipe import FILES
from images.tree import Kind, Source, Tree, add_members, keep_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from images.archive import Package
    from images.donor import Donor
    from images.downloads import Download
    from images.progress import Progress
    from images.recipe import Recipe

CERTIFICATES = "usr/share/ca-certificates/"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package whose data.tar lies decompressed on disk, or need not.

    :param data: that tar.
    :param sources: what has its files' content, by the offset in the tar, where the tar is not there.
    """

    package: Package
    deb: Path
    data: Path
    members: Members
    sources: Mapping[int, Source] = field(default_factory=dict)


def unpack_packages(
    packages: Sequence[Package], debs: Sequence[Path], work: Path, progress: Progress, donor: Donor | None = None
) -> list[Unpacked]:
    """Decompress every data.tar into `work`, some at a time (lzma runs without the interpreter's lock).

    :param donor: of the packages it has nothing is decompressed before it is read, and that it has not.
    :raises ImageError: a .deb that is none.
    :raises DiskFullError: no space in `work`; told before any is taken where packages say how much they need.
    """
    places = [work / f"{number}.tar" for number in range(len(packages))]
    lent = {
        number: Unpacked(package, deb, data, *found)
        for number, (package, deb, data) in enumerate(zip(packages, debs, places, strict=True))
        if donor is not None and (found := donor.lend(package.sha256, deb, data)) is not None
    }
    fresh = [number for number in range(len(packages)) if number not in lent]
    if not fresh:
        return [lent[number] for number in range(len(packages))]
    require_space(work, sum(packages[number].unpacked for number in fresh))

    def one(number: int) -> Unpacked:
        with disk_full_explained(work):
            unpack_data(debs[number], places[number])
        task.advance(packages[number].size)
        return Unpacked(packages[number], debs[number], places[number], read_members(places[number]))

    with (
        progress.task("unpacking", sum(packages[number].size for number in fresh), "B") as task,
        ThreadPoolExecutor(os.cpu_count() or 2, "unpack") as pool,
    ):
        # The biggest first: the kernel alone takes a third of the time, and must not be what is left at the end.
        order = sorted(fresh, key=lambda number: -packages[number].size)
        done = lent | dict(zip(order, pool.map(one, order), strict=True))
        return [done[number] for number in range(len(packages))]


def package_tree(unpacked: Sequence[Unpacked]) -> Tree:
    """One tree of all packages: base-files first, since it brings the links of the merged /usr."""
    tree = Tree()
    for item in sorted(unpacked, key=lambda item: (item.package.name != "base-files", item.package.name)):
        add_members(tree, item.members, item.data, item.package.name, item.sources)
    return tree


def apply_recipe(tree: Tree, recipe: Recipe, added: Sequence[tuple[Download, Path]], store: Path) -> None:
    """Bring a tree of packages into the recipe's shape (its modules are chosen elsewhere).

    :param added: of `images.downloads.have_downloads`.
    :param store: a file for what is taken of these and of the overlay; the tree refers to it.
    :raises ImageError: the recipe names something that is not there.
    """
    tree.drop(recipe.drop)
    add_accounts(tree, recipe.users, recipe.groups)
    add_ca_bundle(tree)
    for path, mode in recipe.dirs.items():
        tree.add_dir(path.strip("/"), mode)
    for name in recipe.files:
        for path, data, mode in own_files(FILES / name):
            tree.add_file(path, data, mode)
    for path, source in own_paths(Path(recipe.overlay)) if recipe.overlay else ():
        with source.open("rb") as file:
            content, head = keep_content(file, store)
        tree.add_file(path, content, own_mode(head))
    for one, source in added:
        for path, content, mode in files_of(one, source, store):
            tree.add_file(path, content, mode)
    for path, target in recipe.links.items():
        tree.add_link(path.strip("/"), target)
    apply_modes(tree, recipe.modes)


def apply_modes(tree: Tree, modes: dict[str, int]) -> None:
    """Set the mode of everything that a pattern matches.

    :raises RecipeError: patterns that match nothing.
    """
    idle = []
    for pattern, mode in modes.items():
        glob = pattern.strip("/")
        hits = [p for p, node in tree.nodes.items() if node.kind is not Kind.LINK and fnmatch.fnmatchcase(p, glob)]
        for path in hits:
            tree.chmod(path, mode)
        if not hits:
            idle.append(pattern)
    if idle:
        raise RecipeError("`modes` names files that do not exist", "\n".join(idle), "Correct the recipe")


def add_ca_bundle(tree: Tree) -> None:
    """What update-ca-certificates would write, if ca-certificates is there: every certificate, one after another."""
    names = sorted(path for path in tree.nodes if path.startswith(CERTIFICATES) and path.endswith(".crt"))
    if names:
        tree.add_file(BUNDLE, b"".join(tree.nodes[name].read().rstrip(b"\n") + b"\n" for name in names))
