"""QEMU's command line for a machine: a pure function, compared whole with golden files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.drivers.qemu import hardware
from hostvm.drivers.qemu.hardware import MIB, escape
from hostvm.qemu_binary import firmware_options
from hostvm.shares.device import device_kind

if TYPE_CHECKING:
    from hostvm.drivers.base import DomainSpec

QMP_SOCKET = "qmp.sock"
"""In the machine's run folder: QEMU's monitor."""

PID_FILE = "qemu.pid"
"""In the machine's run folder: written by QEMU itself."""

LOG_FILE = "qemu.log"
"""In the machine's run folder: what QEMU prints."""

DATA_DISK = "data"
"""The node of the data disk."""

NETWORK = "net0"
"""The id of the user-mode network."""

QUICK_BIOS = "qboot.rom"
"""QEMU's small firmware for direct kernel boot: emulated, the kernel begins some 0.25 s sooner than with SeaBIOS."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the command line depends on besides the domain.

    :param version: QEMU's.
    :param qmp_fd: a listening Unix socket that QEMU inherits; without it (Windows) QEMU makes its own.
    :param intel_mac: reports that `-cpu host` needs a flag taken away.
    :param quick_bios: QEMU has `QUICK_BIOS`.
    """

    version: tuple[int, int, int]
    qmp_fd: int | None = None
    intel_mac: bool = False
    quick_bios: bool = False


def build_argv(domain: DomainSpec, facts: HostFacts) -> list[str]:
    """The whole command line, the program first."""
    return [
        str(domain.qemu),
        *firmware_options(domain.firmware),
        *_identity(domain),
        *_board(domain, facts),
        *_boot(domain, facts),
        *_monitor(domain, facts),
        *_disk("root", "raw", domain.root_image, readonly=True),
        *_disk(DATA_DISK, "qcow2", domain.data_disk),
        *_network(domain),
        *_helpers(domain),
        *(word for disk in domain.disks for word in _disk(disk.name, "qcow2", disk.path, f"disk-{disk.name}")),
        *(word for share in domain.shares for word in device_kind(share.kind).qemu_options(share)),
    ]


def incoming_argv(domain: DomainSpec, facts: HostFacts) -> list[str]:
    """The command line of a QEMU that waits for a saved state and, once it has it, for `cont`.

    The ssh port is forwarded when the guest is about to run: a connection made before would stay silent.
    """
    return [*build_argv(replace(domain, ssh_port=0), facts), "-incoming", "defer", "-S"]


def board_words(domain: DomainSpec, facts: HostFacts) -> list[str]:
    """The command line less what may change while a machine is suspended: places on this computer, the ssh port."""
    here = Path("-")
    moved = replace(
        domain,
        qemu=here,
        firmware=(),
        kernel=here,
        initramfs=here,
        root_image=here,
        data_disk=here,
        console=here,
        run_dir=here,
        ssh_port=0,
        disks=tuple(replace(disk, path=here) for disk in domain.disks),
        shares=tuple(replace(share, socket=here if share.socket else None) for share in domain.shares),
    )
    return build_argv(moved, replace(facts, qmp_fd=None))


# fmt: off
def _identity(domain: DomainSpec) -> list[str]:
    return [
        "-name", f"guest=hostvm-{escape(domain.name)},debug-threads=on",
        "-uuid", domain.uuid,
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-pidfile", str(domain.run_dir / PID_FILE),
        *([] if domain.reboots else ["-no-reboot"]),
    ]


def _board(domain: DomainSpec, facts: HostFacts) -> list[str]:
    mib = -(-domain.memory // MIB)
    return [
        "-machine", f"{hardware.machine(domain.arch)},memory-backend=ram",
        "-accel", hardware.accelerator(domain.arch, domain.accel, facts.version),
        "-cpu", hardware.cpu(domain.arch, domain.accel, intel_mac=facts.intel_mac),
        "-smp", str(hardware.usable_cpus(domain.arch, domain.accel, facts.version, domain.cpus)),
        "-m", f"{mib}M",
        "-object", _memory(domain, mib),
    ]


def _memory(domain: DomainSpec, mib: int) -> str:
    # A virtiofsd reads and writes the guest's memory itself.
    if any(share.kind == "virtiofs" for share in domain.shares):
        return f"memory-backend-memfd,id=ram,size={mib}M,share=on"
    return f"memory-backend-ram,id=ram,size={mib}M"


def _boot(domain: DomainSpec, facts: HostFacts) -> list[str]:
    # Under an accelerator it would save nothing that is felt, and was not tried.
    # It halts at the command to tell QEMU where in memory the generation's id lies.
    quick = facts.quick_bios and (domain.arch, domain.accel) == ("amd64", "tcg") and not domain.generation
    return [
        *(["-bios", QUICK_BIOS] if quick else []),
        "-kernel", str(domain.kernel),
        "-initrd", str(domain.initramfs),
        "-append", hardware.with_parameters(domain.cmdline, domain.arch, domain.accel, facts.version),
    ]


def _monitor(domain: DomainSpec, facts: HostFacts) -> list[str]:
    place = f"fd={facts.qmp_fd}" if facts.qmp_fd is not None else f"path={escape(domain.run_dir / QMP_SOCKET)}"
    return [
        # A machine that was suspended goes on in the console of its boot.
        "-chardev", f"file,id=console,path={escape(domain.console)},append=on",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,{place},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    ]


def _disk(name: str, kind: str, path: Path, node: str = "", *, readonly: bool = False) -> list[str]:
    access = "read-only=on" if readonly else "discard=unmap,detect-zeroes=unmap,file.discard=unmap"
    # A write that fails here, for want of room, must not become an error in the guest, whose file system would end.
    errors = "" if readonly else ",werror=stop,rerror=report"
    return [
        "-blockdev", f"{kind},node-name={node or name},{access},file.driver=file,file.filename={escape(path)}",
        "-device", f"virtio-blk-pci,drive={node or name},serial={name}{errors}",
    ]


def _network(domain: DomainSpec) -> list[str]:
    # Without an address, hostfwd would listen on every interface of the host. The empty romfile spares the
    # firmware a network boot program.
    ssh = f",hostfwd=tcp:127.0.0.1:{domain.ssh_port}-:22" if domain.ssh_port else ""
    return [
        "-netdev", f"user,id={NETWORK},net={domain.subnet}{ssh}",
        "-device", f"virtio-net-pci,netdev={NETWORK},mac={domain.mac},romfile=",
    ]


def _helpers(domain: DomainSpec) -> list[str]:
    return [
        "-device", "virtio-rng-pci",
        "-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on",
        # Another id in each QEMU, which writes it into the memory that it loads and interrupts the guest.
        *(["-device", "vmgenid,guid=auto"] if domain.generation else []),
    ]
# fmt: on
