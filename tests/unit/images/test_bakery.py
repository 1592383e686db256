from __future__ import annotations

import pytest

from images.bake import BakeDisk
from images.bakery import Bakery, builder_initramfs, make_disk
from images.cpio import CpioEntry
from images.modules import ModuleSet
from images.progress import NullProgress
from images.tree import Tree


class RecordingBuilder:
    def run(self, job, progress):
        self.job = job
        self.initramfs = job.initramfs.read_bytes()
        return "console"


def test_a_job_is_appended_to_the_initramfs(tmp_path):
    builder = RecordingBuilder()
    bakery = Bakery("arm64", tmp_path / "vmlinuz", b"070701BASE", builder)
    console = bakery.run(
        "finish",
        {"EPOCH": "1", "TEXT": "it's"},
        tmp_path / "in",
        tmp_path / "out",
        tmp_path,
        NullProgress(),
        extra=[CpioEntry.file("job/finish", b"step ldconfig\n")],
        memory=1 << 30,
        title="finishing",
    )
    job = builder.job
    assert console == "console"
    assert job.disks == (BakeDisk(tmp_path / "in", readonly=True), BakeDisk(tmp_path / "out"))
    assert (job.arch, job.memory, job.success) == ("arm64", 1 << 30, "builder: job done")
    assert job.cmdline == "console=ttyAMA0 quiet panic=-1"
    assert builder.initramfs.startswith(b"070701BASE")
    assert b"EPOCH=1\nTEXT='it'\"'\"'s'\n" in builder.initramfs
    assert b"step ldconfig\n" in builder.initramfs
    assert b". /job/finish\n" in builder.initramfs


def test_a_disk_is_whole_sectors(tmp_path):
    make_disk(tmp_path / "disk", 1000)
    assert (tmp_path / "disk").stat().st_size == 1024


@pytest.mark.parametrize(
    ("builtin", "order"),
    [
        (True, b"virtio_blk\nbinfmt_misc\n"),  # trixie's kernel
        (False, b"virtio_pci_modern_dev\nvirtio_pci\nvirtio_blk\nbinfmt_misc\n"),  # bookworm's: no disk without it
    ],
)
def test_the_bus_of_the_disks_is_loaded_where_the_kernel_has_it_as_a_module(builtin, order):
    folder = "usr/lib/modules/6"
    tree = Tree()
    tree.add_file("usr/bin/busybox", b"BUSYBOX", 0o755)
    needs = {"virtio_blk": b"", "binfmt_misc": b""}
    if builtin:
        tree.add_file(f"{folder}/modules.builtin", b"kernel/drivers/virtio/virtio_pci.ko\n")
    else:
        needs |= {"virtio_pci": b"virtio_pci_modern_dev", "virtio_pci_modern_dev": b""}
    for name, other in needs.items():
        tree.add_file(f"{folder}/kernel/{name}.ko", b"\0depends=" + other + b"\0")
    made = builder_initramfs(tree, ModuleSet.of(tree))
    assert made.split(b"modules/order\0", 1)[1].lstrip(b"\0").startswith(order)
    assert (b"modules/virtio_pci.ko" in made) is not builtin
