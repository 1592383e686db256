"""Putting an initramfs together: busybox, modules in load order, and a folder of own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.cpio import CpioEntry
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images.modules import ModuleSet
    from images.tree import Tree

FOLDERS = ("bin", "dev", "image", "layer", "modules", "proc", "root", "run", "sys", "tmp")
STAGE_MARK = "--"


def own_files(folder: Path) -> list[tuple[str, bytes, int]]:
    """(path, content, mode) of every file below `folder`, sorted.

    Modes come from the content, not from the host: Windows has none and a checkout may have any.
    """
    return [(name, data := path.read_bytes(), own_mode(data)) for name, path in own_paths(folder)]


def own_paths(folder: Path) -> list[tuple[str, Path]]:
    """(path, file) of every file below `folder`, sorted: for those that are too large for memory."""
    found = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    return sorted(found)


def own_mode(head: bytes) -> int:
    """Of a file of ours that begins with these bytes."""
    return 0o755 if head.startswith(b"#!") else 0o644


def load_order(modules: ModuleSet, names: Sequence[str]) -> list[str]:
    """`names` with what they need before them, stage marks kept in place."""
    order: list[str] = []
    for name in names:
        if name == STAGE_MARK:
            order.append(name)
        else:
            order += [needed for needed in modules.closure([name]) if needed not in order]
    return order


def initramfs_entries(tree: Tree, modules: ModuleSet, names: Sequence[str], folder: Path) -> list[CpioEntry]:
    """The entries every initramfs of ours has; see `images.recipe` for the layout.

    :raises ImageError: no busybox in `tree`, no such module, or no `init` in `folder`.
    """
    files = own_files(folder)
    if not any(path == "init" for path, _, _ in files):
        raise ImageError(f"{folder} has no init", None, "Add an executable `init` to it")
    order = load_order(modules, names)
    return [
        *(CpioEntry.folder(name) for name in FOLDERS),
        CpioEntry.char_device("dev/console", 5, 1),
        CpioEntry.file("bin/busybox", tree.read("usr/bin/busybox"), 0o755),
        CpioEntry.link("bin/sh", "busybox"),
        *(CpioEntry.file(f"modules/{name}.ko", modules.read(name)) for name in order if name != STAGE_MARK),
        CpioEntry.file("modules/order", "".join(f"{name}\n" for name in order).encode()),
        *(CpioEntry.file(path, data, mode) for path, data, mode in files),
    ]
