"""Choosing kernel modules: what to keep, what that needs, and in which order to load it."""

from __future__ import annotations

import fnmatch
import gzip
import lzma
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from images.errors import ImageError
from images.module_search import SUFFIXES, choose_modules, module_name
from images.tree import Slice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from images.tree import Node, Tree

SIGNATURE_MAGIC = b"~Module signature appended~\n"
SIGNATURE_FACTS = 12


def module_depends(module: bytes) -> tuple[str, ...]:
    """What an (uncompressed) module says it needs: `depends=` of its .modinfo section.

    The section is a run of NUL-ended key=value strings; searching for the key avoids an ELF reader, and the key
    occurs nowhere else preceded by a NUL.
    """
    start = module.find(b"\0depends=")
    if start < 0:
        return ()
    start += len(b"\0depends=")
    value = module[start : module.index(b"\0", start)].decode()
    return tuple(name.replace("-", "_") for name in value.split(",") if name)


def plain_module(path: str, data: bytes) -> bytes:
    """A module file's content as the kernel reads it soonest: decompressed and unsigned.

    The package was verified and the root is read-only, so a check at each load proves nothing more; under emulation
    it takes 20 to 30 ms a module (some 40 are loaded on the way to an answering engine).
    """
    if path.endswith(".xz"):
        data = lzma.decompress(data)
    elif path.endswith(".gz"):
        data = gzip.decompress(data)
    return _unsigned(data)


def _unsigned(module: bytes) -> bytes:
    """Without the appended signature: PKCS#7, `struct module_signature`, magic (include/linux/module_signature.h)."""
    if not module.endswith(SIGNATURE_MAGIC):
        return module
    end = len(module) - len(SIGNATURE_MAGIC)
    length = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - SIGNATURE_FACTS - length]


@dataclass(slots=True)
class ModuleSet:
    """The modules of one kernel in a tree.

    :param release: the kernel's release, e.g. 6.12.117+deb13-amd64.
    :param paths: module files by module name.
    :param builtin: paths below the kernel's folder of what is part of the kernel itself: one architecture's
        module is another's built-in, and a recipe is for both.
    :param store: a file for modules that were decompressed, to read them again from; without one they are
        decompressed each time, and held in memory by `decompress`.
    :param plain: by a module file's content what it is decompressed, where that lies somewhere; grows.
    """

    tree: Tree
    release: str
    paths: dict[str, str]
    builtin: dict[str, str] = field(default_factory=dict)
    store: Path | None = None
    plain: dict[Slice, Slice] = field(default_factory=dict)
    _stored: dict[str, Slice] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Tree, store: Path | None = None, plain: Mapping[Slice, Slice] | None = None) -> ModuleSet:
        """Find the one kernel of a tree.

        :raises ImageError: none, or several.
        """
        prefix = "usr/lib/modules/"
        files = [path for path in tree.nodes if path.startswith(prefix) and path.endswith(SUFFIXES)]
        releases = {path.removeprefix(prefix).split("/", 1)[0] for path in files}
        if len(releases) != 1:
            raise ImageError(
                f"the packages hold {len(releases)} kernels, one is needed",
                ", ".join(sorted(releases)) or None,
                "Name one in the recipe, e.g. `kernel: linux-image-amd64`",
            )
        release = releases.pop()
        listing = f"{prefix}{release}/modules.builtin"
        builtin = tree.read(listing).decode().split() if listing in tree.nodes else []
        return cls(
            tree,
            release,
            choose_modules(tree, release),
            {module_name(path): f"{prefix}{release}/{path}" for path in builtin},
            store,
            dict(plain or {}),
        )

    def vmlinuz(self) -> Node:
        """The kernel itself: in Debian from forky on beside its modules, before that in /boot.

        :raises ImageError: it is in neither place.
        """
        beside = f"usr/lib/modules/{self.release}/vmlinuz"
        return self.tree.file(beside if beside in self.tree.nodes else f"boot/vmlinuz-{self.release}")

    def read(self, name: str) -> bytes:
        """A module, decompressed and unsigned.

        :raises ImageError: the kernel has no such module.
        """
        if name not in self.paths:
            raise ImageError(f"kernel {self.release} has no module {name}", None, "Correct the recipe's `modules`")
        content = self._plain(name)
        return content if isinstance(content, bytes) else content.read()

    def _plain(self, name: str) -> Slice | bytes:
        if name in self._stored:
            return self._stored[name]
        path = self.paths[name]
        packed = self.tree.file(path).content
        if isinstance(packed, Slice) and packed in self.plain:
            self._stored[name] = self.plain[packed]
            return self._stored[name]
        data = plain_module(path, self.tree.read(path))
        if self.store is None:
            return data
        with self.store.open("ab") as file:
            self._stored[name] = Slice(self.store, file.tell(), len(data))
            file.write(data)
        if isinstance(packed, Slice):
            self.plain[packed] = self._stored[name]
        return self._stored[name]

    def closure(self, names: Iterable[str]) -> list[str]:
        """The named modules with all they need, each after its needs: an order in which insmod works."""
        order: list[str] = []
        visiting: set[str] = set()

        def visit(name: str) -> None:
            if name in visiting or (name not in self.paths and name in self.builtin):
                return
            visiting.add(name)
            for needed in module_depends(self.read(name)):
                visit(needed)
            order.append(name)

        for name in names:
            visit(name.replace("-", "_"))
        return order

    def matching(self, globs: Iterable[str]) -> list[str]:
        """Names of modules whose name, or path below `kernel/`, matches one of `globs`; sorted.

        :raises ImageError: a pattern that matches neither a module nor a built-in: a spelling mistake.
        """
        base = f"usr/lib/modules/{self.release}/kernel/"
        found: set[str] = set()
        idle = []
        for glob in globs:
            hits = {
                name
                for name, path in (self.builtin | self.paths).items()
                if fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(path.removeprefix(base), glob)
            }
            if not hits:
                idle.append(glob)
            found |= hits & self.paths.keys()
        if idle:
            raise ImageError(
                f"kernel {self.release} has no module that matches",
                ", ".join(idle),
                "Correct `modules.keep` in the recipe",
            )
        return sorted(found)

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove every other module from the tree."""
        kept = {self.paths[name] for name in names}
        doomed = {path for path in self.paths.values() if path not in kept}
        self.tree.remove(lambda path: path in doomed)
        self.paths = {name: path for name, path in self.paths.items() if path in kept}

    def decompress(self) -> None:
        """Store every module plain: the file system packs them anyway, and the guest loads them faster.

        It also spares the tree liblzma, without which kmod cannot read Debian's modules.
        """
        for name, path in self.paths.items():
            plain = path[: path.index(".ko")] + ".ko"
            if plain != path:
                content = self._plain(name)
                self.tree.nodes[plain] = replace(self.tree.nodes.pop(path), content=content)
                self.paths[name] = plain
