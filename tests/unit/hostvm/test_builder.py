from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hostvm.builder import builder_argv, read_tail
from hostvm.qemu_binary import QEMU_ARCH, QemuBinary
from images.bake import BakeDisk, BakeJob


@pytest.mark.parametrize(("arch", "accel"), [("amd64", "tcg"), ("amd64", "kvm"), ("arm64", "hvf")])
def test_whole_command_line(golden, arch, accel):
    job = BakeJob(
        title="pack",
        arch=arch,
        kernel=Path("/c/vmlinuz"),
        initramfs=Path("/c/initramfs"),
        cmdline="console=ttyS0 panic=-1",
        disks=(BakeDisk(Path("/tmp/a, b/in"), readonly=True), BakeDisk(Path("/tmp/out"))),
        success="done",
        memory=1024**3 - 1,
    )
    qemu = QemuBinary(Path(f"/usr/bin/qemu-system-{QEMU_ARCH[arch]}"), arch, (7, 2, 22))
    argv = builder_argv(job, qemu, accel, Path("/tmp/c/console.log"))
    golden(f"builder-{arch}-{accel}.txt", "\n".join(map(shlex.quote, argv)) + "\n")


def test_only_the_end_of_a_console_is_read(tmp_path):
    (tmp_path / "console").write_bytes(b"first\r\nlast\r\n")
    assert read_tail(tmp_path / "console", 6) == "last\n"
    assert read_tail(tmp_path / "console", 100) == "first\nlast\n"
    assert read_tail(tmp_path / "missing", 100) == ""
