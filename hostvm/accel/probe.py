"""The proof that an accelerator works: a real kernel under it, up to a program in user space.

Anything less lies: /dev/kvm can exist, open, answer its version and even create a VM, and yet no kernel runs on
it (nested virtualisation without its parts).
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
from hostvm.accel.probe_init import MARK, probe_initramfs
from hostvm.drivers.qemu import hardware, unix_socket
from hostvm.drivers.qemu.qmp import Qmp, QmpGoneError
from hostvm.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostvm.process import Child
    from hostvm.qemu_binary import QemuBinary

PROBE_TIMEOUT = 10.0
"""Seconds for one boot; a working accelerator needs less than one."""

_GOES_ON = ("prelaunch", "running", "shutdown")
"""What QEMU's monitor says of a guest whose CPUs run, or that ends by itself."""

CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
"""The serial port's name in the guest."""


def probe(accel: str, qemu: QemuBinary, kernel: Path) -> str | None:
    """Boot `kernel` under `accel`; None when it works, else why not, in one line."""
    with tempfile.TemporaryDirectory(prefix="hostvm-probe-") as name:
        folder = Path(name)
        (folder / "initramfs").write_bytes(probe_initramfs(qemu.arch))
        with _start(accel, qemu, kernel, folder) as child:
            return _watch(child, folder)


def probe_argv(accel: str, qemu: QemuBinary, kernel: Path, folder: Path, qmp_fd: int | None) -> list[str]:
    """The command line of the probe's guest; pure. Two CPUs, because some accelerators fail only then."""
    place = f"fd={qmp_fd}" if qmp_fd is not None else f"path={hardware.escape(folder / 'qmp')}"
    cmdline = f"console={CONSOLES[qemu.arch]} quiet panic=-1"
    # fmt: off
    return [
        *qemu.command,
        "-name", "guest=hostvm-probe",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-no-reboot",
        "-machine", hardware.machine(qemu.arch),
        "-accel", hardware.accelerator(qemu.arch, accel, qemu.version),
        "-cpu", hardware.cpu(qemu.arch, accel, intel_mac=sys.platform == "darwin"),
        "-smp", str(hardware.usable_cpus(qemu.arch, accel, qemu.version, 2)),
        "-m", "256M",
        "-kernel", str(kernel),
        "-initrd", str(folder / "initramfs"),
        "-append", hardware.with_parameters(cmdline, qemu.arch, accel, qemu.version),
        "-chardev", f"file,id=console,path={hardware.escape(folder / 'console')}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,{place},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    ]
    # fmt: on


@contextlib.contextmanager
def _start(accel: str, qemu: QemuBinary, kernel: Path, folder: Path) -> Iterator[Child]:
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        if sys.platform != "win32":
            listener = stack.enter_context(unix_socket.listen(folder / "qmp"))
            fds.append(listener.fileno())
        argv = probe_argv(accel, qemu, kernel, folder, fds[0] if fds else None)
        child = stack.enter_context(process.running(argv, folder / "log", pass_fds=fds))
        if sys.platform != "win32":
            listener.close()  # so that connecting to a QEMU that ended is refused
        yield child


def _watch(child: Child, folder: Path) -> str | None:
    deadline = time.monotonic() + PROBE_TIMEOUT
    qmp: Qmp | None = None
    try:
        while time.monotonic() < deadline:
            if MARK in _read(folder / "console"):
                return None
            ended = child.poll()
            if ended is not None:
                # It may have written the mark and ended between the two looks.
                return None if MARK in _read(folder / "console") else _last_words(folder, ended)
            qmp = qmp or _connect(folder, deadline - time.monotonic())
            # Asked for: of a CPU that died before anybody listened no event tells.
            if qmp and (status := _status(qmp, deadline - time.monotonic())) not in _GOES_ON:
                return f"the virtual CPU died ({status})"
            time.sleep(0.03)
    except QmpGoneError:
        ended = child.wait(2.0)
        return None if MARK in _read(folder / "console") else _last_words(folder, ended)
    except DriverError as error:
        return None if MARK in _read(folder / "console") else f"QEMU's monitor failed: {error.details}"
    finally:
        if qmp:
            qmp.close()
    return f"a kernel did not come up within {PROBE_TIMEOUT:g} s"


def _connect(folder: Path, left: float) -> Qmp | None:
    """:param left: seconds; the socket takes connections before QEMU, which a busy computer is slow to begin, does."""
    try:
        return Qmp.connect(folder / "qmp", max(0.1, left))
    except OSError:
        return None


def _status(qmp: Qmp, left: float) -> str:
    return str(qmp.execute("query-status", timeout=max(0.1, left))["status"])


def _last_words(folder: Path, status: int | None) -> str:
    lines = (_read(folder / "log") or _read(folder / "console")).strip().splitlines()
    said = next((line for line in lines if "warning:" not in line), "nothing")
    return f"QEMU ended with status {status} and said: {said.strip()}"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
