"""The builder guest's kernel and initramfs, kept between jobs.

CACHE/builder/KEY/{vmlinuz,initramfs}   KEY: sha256 of the packages and files it is made of
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from filelock import FileLock

from images.bakery import BUILDER_MODULES, TOOL_PACKAGES, Bakery, builder_initramfs
from images.disk import disk_full_explained, temporary_folder
from images.initramfs import own_files
from images.modules import ModuleSet
from images.recipe import FILES
from images.rootfs import package_tree, unpack_packages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images.archive import Archive, Package
    from images.bake import Builder
    from images.progress import Progress

KERNELS = {"amd64": "linux-image-amd64", "arm64": "linux-image-arm64"}
# Scripts and helpers of a kernel that is installed; this one is only booted.
NOT_BOOTED = ("linux-base", "initramfs-tools", "kmod")


def open_bakery(archive: Archive, arch: str, cache: Path, builder: Builder, progress: Progress) -> Bakery:
    """A builder guest of the archive's newest kernel and tools; made when the cache has none.

    :raises HostvmError: see `Archive.resolve`, `Archive.fetch`.
    """
    tools = archive.resolve(TOOL_PACKAGES)
    kernel = archive.resolve([KERNELS[arch]], NOT_BOOTED)
    folder = cache / "builder" / kit_key(arch, [*tools, *kernel])
    if not (folder / "initramfs").is_file():
        with disk_full_explained(cache):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock"), temporary_folder(folder.parent) as work:
            if not folder.exists():
                _make_kit(archive, tools, kernel, work, progress)
                (work / "kit").replace(folder)
    return Bakery(arch, folder / "vmlinuz", (folder / "initramfs").read_bytes(), builder)


def tool_versions(archive: Archive) -> list[str]:
    """What packs an image, as "name version": other tools may give other bytes of the same tree."""
    return [f"{package.name} {package.version}" for package in archive.resolve(TOOL_PACKAGES)]


def kit_key(arch: str, packages: Sequence[Package]) -> str:
    """What a kit depends on, as one hash."""
    content = {
        "arch": arch,
        "modules": BUILDER_MODULES,
        "packages": sorted(package.sha256 for package in packages),
        "files": [[path, hashlib.sha256(data).hexdigest()] for path, data, _ in own_files(FILES / "builder")],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _make_kit(
    archive: Archive, tools: Sequence[Package], kernel: Sequence[Package], work: Path, progress: Progress
) -> None:
    both = [*tools, *kernel]
    unpacked = unpack_packages(both, archive.fetch(both, progress), work, progress)
    with progress.step("builder guest"):
        kernel_tree = package_tree(unpacked[len(tools) :])
        modules = ModuleSet.of(kernel_tree)
        kit = work / "kit"
        kit.mkdir()
        (kit / "vmlinuz").write_bytes(kernel_tree.read(f"boot/vmlinuz-{modules.release}"))
        initramfs = builder_initramfs(package_tree(unpacked[: len(tools)]), modules)
        (kit / "initramfs").write_bytes(initramfs)
