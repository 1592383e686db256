"""Which of several modules with one name counts, as kmod 34's depmod has it: depmod.d(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from images.tree import Tree

SUFFIXES = (".ko.xz", ".ko.gz", ".ko")
# Of files with one name the first folder's counts.
_FOLDERS = ("run", "etc", "usr/local/lib", "usr/lib")
_BUILTIN = "built-in"
"""Stands for every folder that no other word names."""
_ANY_KERNEL = "*"


def module_name(path: str) -> str:
    """The kernel's name of a module file: `a/virtio-blk.ko.xz` is virtio_blk."""
    return _stem(path).rpartition("/")[2].replace("-", "_")


def choose_modules(tree: Tree, release: str) -> dict[str, str]:
    """A kernel's module files by module name: of several with one name the one that modprobe is to load."""
    folder = f"usr/lib/modules/{release}/"
    order = _Order.of(tree, release)
    chosen: dict[str, str] = {}
    for path in tree.nodes:
        if not path.startswith(folder) or not path.endswith(SUFFIXES):
            continue
        name = module_name(path)
        if name not in chosen or order.rank(path.removeprefix(folder)) <= order.rank(chosen[name].removeprefix(folder)):
            chosen[name] = path
    return chosen


@dataclass(frozen=True, slots=True)
class _Order:
    """What depmod.d says.

    :param search: folders, the first counting most.
    :param overrides: modules, FOLDER/NAME as the file is called, that count before all others.
    """

    search: tuple[str, ...]
    overrides: frozenset[str]

    @classmethod
    def of(cls, tree: Tree, release: str) -> _Order:
        search: list[str] = []
        overrides: set[str] = set()
        for line in _lines(tree):
            match line.split():
                case ["search", *folders]:
                    search += folders
                case ["override", name, kernel, folder, *_] if _is_of(kernel, release):
                    overrides.add(f"{folder}/{name}")
        return cls(tuple(search or ("updates", _BUILTIN)), frozenset(overrides))

    def rank(self, path: str) -> int:
        """A number for a path below the kernel's folder; the lower the sooner it counts."""
        if _stem(path) in self.overrides:
            return -1
        own = [number for number, word in enumerate(self.search) if path.startswith(f"{word}/")]
        rest = self.search.index(_BUILTIN) if _BUILTIN in self.search else len(self.search)
        return min(own, default=rest)


def _lines(tree: Tree) -> Iterable[str]:
    """Those of all files, by the files' names; one that ends with a backslash goes on in the next."""
    files: dict[str, str] = {}
    for folder in _FOLDERS:
        place = tree.resolve(f"{folder}/depmod.d")
        for path in tree.nodes:
            above, _, name = path.rpartition("/")
            if above == place and name.endswith(".conf"):
                files.setdefault(name, path)
    for _, path in sorted(files.items()):
        node = tree.get(path)
        if node is not None and node.kind is Kind.FILE:  # one may be a link to /dev/null
            yield from node.read().decode(errors="replace").replace("\\\n", "").splitlines()


def _is_of(kernel: str, release: str) -> bool:
    try:
        return kernel == _ANY_KERNEL or re.search(kernel, release) is not None
    except re.error:
        return False


def _stem(path: str) -> str:
    for suffix in SUFFIXES:
        path = path.removesuffix(suffix)
    return path
