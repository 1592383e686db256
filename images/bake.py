"""The one ability `images` needs from a layer above: run a throw-away guest and wait for its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from images.progress import Progress


@dataclass(frozen=True, slots=True)
class BakeDisk:
    """A raw disk of the builder guest, seen there as /dev/vda, /dev/vdb, ... in the order given.

    One that may be written holds zeros at first: a run that has to be repeated begins with that again.
    """

    path: Path
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class BakeJob:
    """One run of a throw-away guest: no network, no console input, powered off by its own init.

    :param success: the line that the guest's init prints on the console when, and only when, all went well.
    :param memory: bytes.
    :param timeout: seconds, for the whole run.
    """

    title: str
    arch: str
    kernel: Path
    initramfs: Path
    cmdline: str
    disks: tuple[BakeDisk, ...]
    success: str
    memory: int
    cpus: int = 2
    timeout: float = 900.0


class Builder(Protocol):
    """Implemented by `hostvm.builder` with QEMU."""

    def run(self, job: BakeJob, progress: Progress) -> str:
        """Boot, wait for power-off, return the console's text (bounded to its last 256 KiB).

        :raises HostvmError: no usable QEMU, time-out, or `job.success` was not printed; the details hold the
            console's last lines. No process outlives the call, Ctrl-C included.
        """
