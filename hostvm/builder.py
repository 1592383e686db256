"""A throw-away guest under QEMU: what `images` needs to pack file systems without any tool on the host."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
from hostvm.console import PANIC_MARK
from hostvm.drivers.qemu import hardware
from hostvm.errors import DriverError
from hostvm.paths import cache
from hostvm.qemu_binary import complete_qemu

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.qemu_binary import QemuBinary
    from images.bake import BakeDisk, BakeJob
    from images.progress import Progress

CONSOLE_KEPT = 256 * 1024
"""Bytes of the console that are returned."""

_TAIL_LINES = 25


class QemuBuilder:
    """Implements `images.bake.Builder`.

    :param choose_accel: tells the accelerator for a job ("kvm", "hvf", "whpx" or "tcg"); without it, tcg.
    """

    def __init__(self, choose_accel: Callable[[BakeJob, QemuBinary, Progress], str] | None = None) -> None:
        self._choose_accel = choose_accel

    def run(self, job: BakeJob, progress: Progress) -> str:
        """See `images.bake.Builder.run`."""
        qemu = complete_qemu(job.arch, cache(), progress)
        accel = self._choose_accel(job, qemu, progress) if self._choose_accel else "tcg"
        with (
            tempfile.TemporaryDirectory(prefix="hostvm-bake-") as folder,
            progress.step(job.title),
        ):
            try:
                return _bake(job, qemu, accel, Path(folder))
            except _CrashedError as crash:
                if job.cpus == 1:
                    raise crash.failure from None
                who = crash.who
            # QEMU 7.2 crashes some guests with several processors under TCG, or itself, and none with one:
            # docs/limitations.md.
            progress.note(f"{who} crashed; the builder guest begins anew, with one processor")
            for disk in job.disks:
                _clear(disk)
            try:
                return _bake(replace(job, cpus=1), qemu, accel, Path(folder))
            except _CrashedError as crash:
                raise crash.failure from None


class _CrashedError(Exception):
    """The guest's kernel did, or QEMU; `failure` is for whoever gives up."""

    def __init__(self, who: str, failure: DriverError) -> None:
        super().__init__()
        self.who, self.failure = who, failure


def _bake(job: BakeJob, qemu: QemuBinary, accel: str, folder: Path) -> str:
    console, log = folder / "console.log", folder / "qemu.log"
    argv = builder_argv(job, qemu, accel, console)
    with process.running(argv, log) as child:
        status = child.wait(job.timeout)
    text = read_tail(console, CONSOLE_KEPT)
    if status == 0 and job.success in text:
        return text
    failure = _failure(job, status, text, read_tail(log, 4000), argv)
    if PANIC_MARK in text:
        raise _CrashedError("the builder guest's kernel", failure)
    raise _CrashedError("QEMU", failure) if process.is_fault(status) else failure


def _clear(disk: BakeDisk) -> None:
    """What a broken-off run left on it."""
    if not disk.readonly:
        size = disk.path.stat().st_size
        for length in (0, size):
            os.truncate(disk.path, length)


def builder_argv(job: BakeJob, qemu: QemuBinary, accel: str, console: Path) -> list[str]:
    """The whole command line of a builder guest; pure."""
    disks: list[str] = []
    for number, disk in enumerate(job.disks):
        options = (
            f"raw,node-name=disk{number}",
            f"read-only={'on' if disk.readonly else 'off'}",
            "cache.no-flush=on",
            "file.driver=file",
            f"file.filename={hardware.escape(disk.path)}",
        )
        # By default QEMU stops the guest when the host's disk is full, and the job would hang until its time-out.
        error = "" if disk.readonly else ",werror=report"
        disks += ["-blockdev", ",".join(options), "-device", f"virtio-blk-pci,drive=disk{number}{error}"]
    # fmt: off
    return [
        *qemu.command,
        "-name", "guest=hostvm-builder",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-no-reboot",
        "-machine", hardware.machine(job.arch),
        "-accel", hardware.accelerator(job.arch, accel, qemu.version),
        "-cpu", hardware.cpu(job.arch, accel, intel_mac=sys.platform == "darwin"),
        "-smp", str(hardware.usable_cpus(job.arch, accel, qemu.version, job.cpus)),
        "-m", str(-(-job.memory // hardware.MIB)),
        "-kernel", str(job.kernel),
        "-initrd", str(job.initramfs),
        "-append", hardware.with_parameters(job.cmdline, job.arch, accel, qemu.version),
        "-chardev", f"file,id=console,path={hardware.escape(console)}",
        "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
        *disks,
    ]
    # fmt: on


def read_tail(path: Path, size: int) -> str:
    """The last `size` bytes of a file as text; "" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", "replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""


def _failure(job: BakeJob, status: int | None, console: str, log: str, argv: list[str]) -> DriverError:
    if status is None:
        ending = f"it was not done within {job.timeout:g} s"
    elif status != 0:
        ending = f"QEMU ended with status {status}"
    else:
        ending = "the guest powered off without reporting success"
    last = "\n".join(console.splitlines()[-_TAIL_LINES:])
    details = [ending, f"command: {process.join(argv)}"]
    details += [f"QEMU said: {log.strip()}"] if log.strip() else []
    details += [f"the console's last lines:\n{last}"] if last else ["the console is empty"]
    return DriverError(f"the builder guest failed: {job.title}", "\n".join(details), "Try again: hostvm image build")
