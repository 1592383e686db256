"""What every driver does, and what it is told: a domain, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from hostvm.net.addresses import DEFAULT_SUBNET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.drivers.hostfwd import Hostfwd
    from hostvm.shares.device import DeviceShare


class DomainState(Enum):
    """A domain as observed, never as remembered."""

    OFF = "stopped"
    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"
    STALLED = "stalled"
    """The hypervisor halted it because its disk could not be written, and tries again when it is let run on."""


@dataclass(frozen=True, slots=True)
class DiskDevice:
    """A further disk.

    :param name: its serial number in the guest; 20 characters at most.
    :param path: a qcow2 file.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """Everything a driver needs to power a machine on.

    :param name: the machine's name; the domain is called `hostvm-NAME`.
    :param memory: bytes, a multiple of 1 MiB.
    :param initramfs: the image's initramfs with the machine's own seed archive appended.
    :param root_image: raw read-only erofs file, the first virtio disk (vda).
    :param data_disk: qcow2, the second virtio disk (vdb).
    :param ssh_port: on the host's 127.0.0.1, forwarded to the guest's port 22; 0 for none.
    :param subnet: of the guest's network, IPv4.
    :param console: file that receives the serial console.
    :param run_dir: short folder, 0700, for qmp.sock and the like.
    :param firmware: folders that QEMU must be told of; see `QemuBinary.firmware`.
    :param shares: folders of the host that the guest gets as devices.
    :param disks: behind the data disk, in this order.
    :param generation: it has the device that tells its kernel when it goes on from a saved state: of several that go
        on from one, each then draws random numbers of its own. amd64 only; states saved by a former hostvm lack it.
    :param reboots: it boots anew when the guest resets itself, as its kernel does when it panics; else it is off then.
    """

    name: str
    uuid: str
    arch: str
    cpus: int
    memory: int
    accel: str
    qemu: Path
    kernel: Path
    initramfs: Path
    cmdline: str
    root_image: Path
    data_disk: Path
    mac: str
    ssh_port: int
    console: Path
    run_dir: Path
    firmware: tuple[Path, ...] = ()
    shares: tuple[DeviceShare, ...] = ()
    subnet: str = DEFAULT_SUBNET
    disks: tuple[DiskDevice, ...] = ()
    generation: bool = False
    reboots: bool = True


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a running domain really has; `memory` and `disk` (the data disk) are bytes."""

    cpus: int
    memory: int
    disk: int


@dataclass(frozen=True, slots=True)
class Features:
    """Differences between drivers, as data.

    :param name: reports what `--driver` calls it.
    :param remote: reports that the hypervisor may be on another computer.
    :param saves_state: reports that RAM can be saved to disk.
    """

    name: str
    remote: bool = False
    saves_state: bool = False


class Driver(Protocol):
    """One machine's hypervisor. Made by `hostvm.drivers.registry.open_driver`; holds no state of its own."""

    features: Features

    def start(self, domain: DomainSpec) -> None:
        """Power the domain on and return as soon as its virtual CPUs run; does not wait for the guest.

        Not idempotent: a domain that already runs is an error. Creates no disks. Leaves nothing behind when it
        fails. The guest survives the calling process.

        :raises DriverError: with the hypervisor's own words as details.
        """

    def state(self) -> DomainState:
        """Observe; never blocks longer than 2 s; a domain that does not exist is OFF."""

    def powerdown(self) -> None:
        """Press the ACPI power button; returns at once; nothing happens when the domain is OFF."""

    def kill(self) -> None:
        """Cut the power and reap; returns when the domain is OFF and its run-time files are gone. Idempotent."""

    def wait_off(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for OFF, then clear run-time files; False when it still runs."""

    def has_crashed(self) -> bool:
        """Whether the hypervisor of the domain, begun by this process, crashed by itself; False if that is unknown."""

    def hardware(self) -> Hardware | None:
        """Observe; None when the domain is OFF. Never blocks longer than 2 s.

        :raises DriverError: the hypervisor does not answer.
        """

    def grow_disk(self, size: int) -> None:
        """Make the running domain's data disk `size` bytes large; the guest sees it, its file system does not grow.

        :raises DriverError: the hypervisor refuses, or the domain is OFF.
        """

    def pause(self) -> None:
        """Halt the virtual CPUs; memory stays taken. Idempotent.

        :raises DriverError: with the hypervisor's own words as details.
        """

    def unpause(self) -> None:
        """Let them run on, also after a `save` whose process was killed in the midst of it. Idempotent.

        :raises DriverError: with the hypervisor's own words as details.
        """

    def board(self, domain: DomainSpec) -> list[str]:
        """What of the hypervisor's words for a domain its saved state depends on; starts nothing."""

    def hypervisor(self, domain: DomainSpec) -> str:
        """Name and version of what would run it, as `save` tells them; starts nothing.

        :raises DriverError: there is none.
        """

    def save(self, target: Path, commit: Callable[[str], None]) -> None:
        """Write the domain's memory and devices to `target` (0600) and power it off. Blocks; only if `saves_state`.

        :param commit: called when `target` is whole and before the power is cut, with the hypervisor's name and
            version; what it raises undoes the save.
        :raises DriverError: it cannot be saved, with the hypervisor's words. Unless it ended, the domain runs again
            and `target` is gone.
        """

    def restore(self, domain: DomainSpec, source: Path, hypervisor: str, consume: Callable[[], None]) -> None:
        """Power the domain on from what `save` wrote, and return as soon as its virtual CPUs run again.

        :param domain: with the same `board` as the one that was saved.
        :param hypervisor: what `commit` was told.
        :param consume: called once when all is loaded and before anything runs; what it raises undoes the restore.
        :raises PortTaken: another program listens on `domain.ssh_port`; nothing was consumed.
        :raises DriverError: it cannot be restored, or is another hypervisor's; nothing runs.
        """

    def forwards(self) -> Hostfwd | None:
        """The domain's way to lead ports of this computer into it; None when it runs on another computer.

        Asks nothing: every call of what it gives is one short session with the hypervisor, at most 2 s.
        """
