"""The builder guest's parts: its kernel, its initramfs, and the jobs it is given."""

from __future__ import annotations

import shlex
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.bake import BakeDisk, BakeJob
from images.cpio import CpioEntry, write_cpio
from images.errors import ImageError
from images.initramfs import initramfs_entries
from images.recipe import FILES
from images.tree import Kind, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from images.bake import Builder
    from images.modules import ModuleSet
    from images.progress import Progress

MIB = 1 << 20
SUCCESS = "builder: job done"
TOOL_PACKAGES = ("busybox-static", "erofs-utils")
BUILDER_MODULES = ("virtio_blk", "binfmt_misc")
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
EROFS_OFFSET, EROFS_MAGIC = 1024, 0xE0F5E1E2
# Not needed to run mkfs.erofs, and every byte of an initramfs costs time.
TOOL_DROP = ("usr/share/*", "usr/lib/*/gconv/*", "usr/lib/*/perl*", "etc/*", "var/*", "usr/include/*")


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
    """The builder guest's initramfs without a job: busybox, mkfs.erofs with its libraries, disk modules.

    :param tools: a tree of TOOL_PACKAGES and what they depend on.
    """
    tools.drop(TOOL_DROP)
    for name in ("lib", "lib64", "sbin"):
        tools.add_link(name, f"usr/{name}")
    return write_cpio([*initramfs_entries(tools, modules, BUILDER_MODULES, FILES / "builder"), *tree_entries(tools)])


def tree_entries(tree: Tree) -> list[CpioEntry]:
    """A tree as initramfs entries (hard links become copies)."""
    entries = []
    for path in sorted(path for path in tree.nodes if path):
        node = tree.nodes[path]
        if node.kind is Kind.DIR:
            entries.append(CpioEntry.folder(path, node.mode, node.uid, node.gid))
        elif node.kind is Kind.LINK:
            entries.append(CpioEntry.link(path, node.target))
        else:
            entries.append(CpioEntry.file(path, node.read(), node.mode, node.uid, node.gid))
    return entries


def make_disk(path: Path, size: int) -> None:
    """A sparse raw disk of at least `size` bytes, whole 512-byte sectors."""
    with path.open("wb") as file:
        file.truncate(-(-size // 512) * 512)


def cut_erofs(path: Path) -> int:
    """Cut a disk with an erofs on it to the file system's own length; returns that.

    Superblock: linux/fs/erofs/erofs_fs.h: magic, then blkszbits at 12 and blocks at 36.

    :raises ImageError: there is no erofs on it.
    """
    with path.open("r+b") as file:
        file.seek(EROFS_OFFSET)
        block = file.read(128).ljust(128, b"\0")
        magic, bits, blocks = struct.unpack_from("<I", block)[0], block[12], struct.unpack_from("<I", block, 36)[0]
        if magic != EROFS_MAGIC:
            raise ImageError("the builder guest wrote no erofs", None, "Try again: `hostvm image build`")
        size: int = blocks << bits
        file.truncate(size)
    return size
