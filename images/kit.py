"""The builder guest's kernel and initramfs, kept between jobs.

CACHE/builder/KEY/{vmlinuz,initramfs,manifest.json}   KEY: sha256 of the packages and files it is made of

The manifest has the sha256 of the other two, some 70 MB together, which are compared whenever a bakery is opened: that
takes a fraction of a second, a job many. A kit that is not whole is made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.archive import fetch_packages
from images.bakery import BUILDER_MODULES, TOOL_PACKAGES, Bakery, builder_initramfs
from images.disk import replace_folder, sha256_file, temporary_folder, work_lock
from images.initramfs import own_files
from images.kernel import write_kernel
from images.modules import ModuleSet
from images.recipe import FILES
from images.rootfs import Unpacked, package_tree, unpack_packages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images.archive import Archive, Fetcher, Package
    from images.bake import Builder
    from images.progress import Progress

REVISION = 3  # raise it when this code makes another kit of the same packages and files
KERNELS = {"amd64": "linux-image-amd64", "arm64": "linux-image-arm64"}
# Scripts and helpers of a kernel that is installed; this one is only booted.
NOT_BOOTED = ("linux-base", "initramfs-tools", "kmod")
KERNEL, INITRAMFS, MANIFEST = "vmlinuz", "initramfs", "manifest.json"


@dataclass(frozen=True, slots=True)
class KitPackages:
    """What a builder guest is made of."""

    arch: str
    tools: Sequence[Package]
    kernel: Sequence[Package]

    @classmethod
    def of(cls, archive: Archive, arch: str) -> KitPackages:
        """The archive's newest.

        :raises HostvmError: see `Archive.resolve`.
        """
        return cls(arch, archive.resolve(TOOL_PACKAGES), archive.resolve([KERNELS[arch]], NOT_BOOTED))


def open_bakery(
    packages: KitPackages,
    fetcher: Fetcher,
    cache: Path,
    builder: Builder,
    progress: Progress,
    unpacked: Sequence[Unpacked] = (),
) -> Bakery:
    """A builder guest of these packages; made when the cache has none, or a damaged one.

    :param unpacked: packages that are unpacked already, the kernel perhaps; the others are fetched.
    :raises HostvmError: see `Archive.fetch`.
    """
    arch, tools, kernel = packages.arch, packages.tools, packages.kernel
    folder = cache / "builder" / kit_key(arch, [*tools, *kernel])
    initramfs = _read_kit(folder)
    if initramfs is None:
        with work_lock(folder.parent, progress), temporary_folder(folder.parent) as work:
            initramfs = _read_kit(folder)  # another hostvm may have made it meanwhile
            if initramfs is None:
                if (folder / MANIFEST).exists():
                    progress.note("the stored builder guest is damaged and is made again")
                missing = [p for p in [*tools, *kernel] if p not in {item.package for item in unpacked}]
                fresh = unpack_packages(missing, fetch_packages(missing, fetcher, progress), work, progress)
                have = {item.package: item for item in [*unpacked, *fresh]}
                with progress.step("builder guest"):
                    initramfs = _make_kit([have[p] for p in tools], [have[p] for p in kernel], work / "kit")
                replace_folder(work / "kit", folder)
    return Bakery(arch, folder / KERNEL, initramfs, builder)


def kit_key(arch: str, packages: Sequence[Package]) -> str:
    """What a kit depends on, as one hash."""
    content = {
        "revision": REVISION,
        "arch": arch,
        "modules": BUILDER_MODULES,
        "packages": sorted(package.sha256 for package in packages),
        "files": [[path, hashlib.sha256(data).hexdigest()] for path, data, _ in own_files(FILES / "builder")],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_kit(folder: Path) -> bytes | None:
    """The initramfs of a kit whose every byte is as it was made; None of any other."""
    try:
        sums = json.loads((folder / MANIFEST).read_bytes())
        initramfs = (folder / INITRAMFS).read_bytes()
        found = {KERNEL: sha256_file(folder / KERNEL), INITRAMFS: hashlib.sha256(initramfs).hexdigest()}
    except (OSError, ValueError, RecursionError):
        return None
    return initramfs if found == sums else None


def _make_kit(tools: Sequence[Unpacked], kernel: Sequence[Unpacked], kit: Path) -> bytes:
    tree = package_tree(kernel)
    modules = ModuleSet.of(tree)
    kit.mkdir()
    write_kernel(modules.vmlinuz(), kit / KERNEL)
    initramfs = builder_initramfs(package_tree(tools), modules)
    (kit / INITRAMFS).write_bytes(initramfs)
    sums = {KERNEL: sha256_file(kit / KERNEL), INITRAMFS: hashlib.sha256(initramfs).hexdigest()}
    (kit / MANIFEST).write_text(json.dumps(sums, indent=1, sort_keys=True), encoding="utf-8")
    return initramfs
