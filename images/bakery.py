"""The builder guest's parts: its kernel, its initramfs, and the jobs it is given."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.bake import BakeDisk, BakeJob
from images.cpio import CpioEntry, write_cpio
from images.disk import require_space
from images.errors import ImageError
from images.initramfs import initramfs_entries
from images.recipe import FILES
from images.tree import Tree, add_package, write_tar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from images.bake import Builder
    from images.modules import ModuleSet
    from images.progress import Progress

MIB = 1 << 20
SUCCESS = "builder: job done"
TOOL_PACKAGES = ("busybox-static",)
BUILDER_MODULES = ("virtio_pci", "virtio_blk", "binfmt_misc")  # the first is part of newer kernels themselves
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}


@dataclass(frozen=True, slots=True)
class Bakery:
    """A builder guest that is ready to be started any number of times.

    :param arch: Debian's name of its architecture, that of the images it makes.
    """

    arch: str
    kernel: Path
    initramfs: bytes
    builder: Builder

    def run(
        self,
        job: str,
        env: Mapping[str, str],
        source: Path,
        target: Path,
        work: Path,
        progress: Progress,
        *,
        extra: Sequence[CpioEntry] = (),
        memory: int,
        title: str,
    ) -> str:
        """Run images/files/builder-jobs/JOB with `source` as /dev/vda and `target` as /dev/vdb.

        :param work: folder for the job's initramfs.
        :param memory: bytes.
        :returns: the console's text.
        :raises HostvmError: the job failed.
        """
        settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items())
        entries = [
            CpioEntry.file("job/env", settings.encode()),
            CpioEntry.file("job/run", (FILES / "builder-jobs" / job).read_bytes()),
            *extra,
        ]
        initramfs = work / "builder.initramfs"
        initramfs.write_bytes(self.initramfs + write_cpio(entries))
        return self.builder.run(
            BakeJob(
                title=title,
                arch=self.arch,
                kernel=self.kernel,
                initramfs=initramfs,
                cmdline=f"console={CONSOLES[self.arch]} quiet panic=-1",
                disks=(BakeDisk(source, readonly=True), BakeDisk(target)),
                success=SUCCESS,
                memory=memory,
            ),
            progress,
        )


def builder_initramfs(tools: Tree, modules: ModuleSet) -> bytes:
    """The builder guest's initramfs without a job: busybox, disk modules.

    :param tools: a tree of TOOL_PACKAGES.
    """
    return write_cpio(initramfs_entries(tools, modules, BUILDER_MODULES, FILES / "builder"))


def make_disk(path: Path, size: int) -> None:
    """A sparse raw disk of at least `size` bytes, whole 512-byte sectors."""
    with path.open("wb") as file:
        file.truncate(-(-size // 512) * 512)


def finish_tree(
    tree: Tree, commands: Sequence[Sequence[str]], release: str, bakery: Bakery, work: Path, progress: Progress
) -> Tree:
    """The tree after `commands` ran in it as a chroot, in the builder guest; its date stays.

    :param commands: argv of each; the word KVER stands for `release`, the kernel's.
    :raises HostvmError: one failed, or left something that is neither file, folder nor link.
    """
    source, target, size = work / "tree.tar", work / "finished.tar", tree.size()
    require_space(work, 2 * size)
    with progress.task("writing the tree", size, "B") as task, source.open("wb") as file:
        write_tar(tree, file, tree.newest, task.advance)
    make_disk(target, 2 * size + 64 * MIB)
    steps = [shlex.join(["step", *(release if word == "KVER" else word for word in argv)]) for argv in commands]
    bakery.run(
        "finish",
        {"EPOCH": str(tree.newest)},
        source,
        target,
        work,
        progress,
        extra=[CpioEntry.file("job/finish", "".join(f"{step}\n" for step in steps).encode())],
        memory=(size + 512 * MIB) // MIB * MIB,  # the unpacked tree lies in the guest's memory
        title="finishing the tree",
    )
    finished = Tree()
    way_out = "Remove it in a last command of the recipe, `[rm, -f, PATH]`, then `hostvm image build`"
    add_package(finished, target, "the finished tree", way_out)
    if len(finished.nodes) == 1:
        raise ImageError("the builder guest gave no tree back", None, "Try again: `hostvm image build`")
    finished.newest = tree.newest
    return finished
