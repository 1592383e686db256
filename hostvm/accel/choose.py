"""Which accelerator a machine gets."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from hostvm.accel.cache import ProbeCache, probe_key
from hostvm.accel.host import ENABLE_WHPX, hvf_obstacle, kvm_obstacle, whpx_obstacle
from hostvm.accel.probe import probe
from hostvm.drivers.qemu import hardware
from hostvm.errors import DriverError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.qemu_binary import QemuBinary
    from images.progress import Progress

ACCELERATORS = ("kvm", "hvf", "whpx", "tcg")

_NATIVE = {"linux": "kvm", "darwin": "hvf", "win32": "whpx"}

_HELP = {
    "kvm": "Look at what is wrong: ls -l /dev/kvm; then let another be chosen: --accel auto",
    "hvf": "Ask macOS: sysctl kern.hv_support; then let another be chosen: --accel auto",
    "whpx": f"Switch it on in PowerShell as administrator: {ENABLE_WHPX}; or let another be chosen: --accel auto",
}


def select_accel(wanted: str, *, qemu: QemuBinary, kernel: Path, cache_dir: Path, progress: Progress) -> str:
    """The accelerator to use for guests of `qemu.arch`: "kvm", "hvf", "whpx" or "tcg".

    "auto" takes the host's own when a tiny boot of `kernel` under it succeeds, else tcg, and says so in one note.
    The finding is kept in `cache_dir`, per QEMU, kernel and boot of the host; the note is not repeated then.

    :param wanted: "auto" or one of `ACCELERATORS`.
    :raises SpecError: unknown word.
    :raises DriverError: one other than "auto" and "tcg" was asked for and does not work.
    """
    if wanted not in {"auto", *ACCELERATORS}:
        raise SpecError(f"unknown accelerator {wanted!r}", None, f"Use one of: --accel auto|{'|'.join(ACCELERATORS)}")
    if wanted == "tcg":
        return "tcg"
    cache = ProbeCache(cache_dir)
    native = native_accel()
    accel = native if wanted == "auto" else wanted
    key = probe_key(accel, qemu, kernel)
    known = cache.get(key)
    # A failure is looked at anew when it was asked for by name: the user may just have mended it.
    if known is None or (known and wanted != "auto"):
        reason = _obstacle(accel, native, qemu) or _probe(accel, qemu, kernel, progress)
        cache.put(key, reason)
        if wanted == "auto" and reason:
            progress.note(f"{accel} cannot be used: {reason}; guests are emulated (tcg), which is slower")
        _warn(accel if not reason else "tcg", qemu, progress)
        known = reason
    if known and wanted != "auto":
        raise DriverError(f"accelerator {accel} does not work here", known, _HELP[accel])
    return "tcg" if known else accel


def native_accel() -> str:
    """The accelerator of this system, whether it works here or not: "kvm", "hvf" or "whpx"."""
    return _NATIVE.get(sys.platform, "kvm")


def host_arch() -> str:
    """This computer's architecture as Debian names it: "amd64", "arm64", or what the system says."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)


def _probe(accel: str, qemu: QemuBinary, kernel: Path, progress: Progress) -> str:
    with progress.step(f"trying accelerator {accel}"):
        return probe(accel, qemu, kernel) or ""


def _obstacle(accel: str, native: str, qemu: QemuBinary) -> str:
    """What makes a boot pointless to try; "" when nothing does."""
    if qemu.arch != host_arch():
        return f"this computer is {host_arch()}, the guest {qemu.arch}"
    if accel != native:
        return f"on this system there is only {native}"
    if accel == "hvf":
        return hvf_obstacle(qemu)
    return kvm_obstacle() if accel == "kvm" else whpx_obstacle()


def crashes_guests(qemu: QemuBinary) -> bool:
    """Whether this QEMU crashes the guests that it emulates."""
    return qemu.arch == "arm64" and qemu.version < (9, 0, 4)


def _warn(accel: str, qemu: QemuBinary, progress: Progress) -> None:
    """Versions of QEMU that are known to be bad at this."""
    if accel == "tcg" and crashes_guests(qemu):
        progress.note(f"QEMU {qemu.version_text} crashes emulated arm64 guests; 9.0.4 or later is needed")
    if accel == "hvf" and qemu.arch == "arm64" and qemu.version[:2] == (11, 0):
        progress.note(
            f"QEMU {qemu.version_text} wastes CPU time on Apple silicon and may stop with an assertion; 10.2 is good"
        )
    if accel == "whpx" and hardware.usable_cpus(qemu.arch, accel, qemu.version, 2) == 1:
        progress.note(
            f"QEMU {qemu.version_text} hangs with several CPUs under whpx: machines get one; 11.0 has the cure"
        )
