from __future__ import annotations

from images.bake import BakeDisk
from images.bakery import Bakery, make_disk
from images.cpio import CpioEntry
from images.progress import NullProgress


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
