from __future__ import annotations

import shlex
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostvm import builder
from hostvm.builder import builder_argv, read_tail
from hostvm.errors import DriverError
from hostvm.qemu_binary import QEMU_ARCH, QemuBinary
from images.bake import BakeDisk, BakeJob
from images.progress import NullProgress


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


ENDS = [
    ("", -11, "QEMU crashed"),
    ("", 0xC0000005, "QEMU crashed"),  # Windows' access violation
    ("Kernel panic - not syncing: x\n", 0, "the builder guest's kernel crashed"),
]


@pytest.fixture
def bake(monkeypatch, tmp_path):
    """`bake(*ends)` runs a job whose QEMUs end so, one after the other: (console, exit status); gives their processors,
    and what was noted."""

    def run(*ends):
        left, cpus, notes = list(ends), [], []

        @contextmanager
        def running(argv, _log):
            console, status = left.pop(0)
            cpus.append(argv[argv.index("-smp") + 1])
            place = argv[argv.index("-chardev") + 1].rpartition("path=")[2]
            Path(place).write_text(console)
            yield SimpleNamespace(wait=lambda _seconds: status)

        monkeypatch.setattr(builder.process, "running", running)
        qemu = QemuBinary(Path("/usr/bin/qemu-system-x86_64"), "amd64", (7, 2, 22))
        monkeypatch.setattr(builder, "complete_qemu", lambda *_: qemu)
        progress = NullProgress()
        progress.note = notes.append
        output = tmp_path / "output"
        output.write_bytes(b"rest")
        disk = BakeDisk(output)
        job = BakeJob("t", "amd64", Path("/k"), Path("/i"), "quiet", (disk,), success="done", memory=1 << 29, cpus=2)
        return builder.QemuBuilder().run(job, progress), cpus, notes, output.read_bytes()

    return run


@pytest.mark.parametrize(("console", "status", "who"), ENDS)
def test_after_a_crash_it_begins_anew_with_one_processor(bake, console, status, who):
    said, cpus, notes, output = bake((console, status), ("done\n", 0))
    assert (said, cpus, output) == ("done\n", ["2", "1"], bytes(4))
    assert notes == [f"{who}; the builder guest begins anew, with one processor"]


@pytest.mark.parametrize(("console", "status", "who"), ENDS)
def test_a_second_crash_is_a_failure(bake, console, status, who):
    with pytest.raises(DriverError, match="the builder guest failed: t"):
        bake((console, status), (console, status))


@pytest.mark.parametrize("status", [1, -9, -15])
def test_what_is_refused_or_killed_does_not_begin_anew(bake, status):
    with pytest.raises(DriverError, match=f"QEMU ended with status {status}\n"):
        bake(("", status))
