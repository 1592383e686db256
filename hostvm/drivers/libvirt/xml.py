"""The domain XML of a machine: a pure function, compared whole with golden files.

Elements: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from hostvm.drivers.qemu import hardware
from hostvm.qemu_binary import QEMU_ARCH
from hostvm.shares.device import device_kind

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.drivers.base import DomainSpec

DOMAIN_PREFIX = "hostvm-"

_TYPES = {"kvm": "kvm", "hvf": "hvf", "tcg": "qemu"}

_TB_CACHE_MIB = 512
"""Room for translated code, as in `hardware.accelerator`."""

_FIRST_MORE_SLOT = 6
"""Of further disks and of shares: behind root and data disk, network, rng and balloon."""

ROOT_DISK, DATA_DISK = "vda", "vdb"
"""The disks' names in the domain, as in the guest."""


def build_domain(domain: DomainSpec) -> str:
    """The whole XML of a transient domain; the ssh port is not in it (libvirt has no word for hostfwd).

    :raises KeyError: libvirt has no such accelerator (whpx).
    """
    root = ET.Element("domain", type=_TYPES[domain.accel])
    _text(root, "name", f"{DOMAIN_PREFIX}{domain.name}")
    _text(root, "uuid", domain.uuid)
    if domain.generation:
        ET.SubElement(root, "genid")  # libvirt makes one, and another one when it restores a state
    _text(root, "memory", str(-(-domain.memory // hardware.MIB)), unit="MiB")
    _text(root, "vcpu", str(domain.cpus))
    if any(share.kind == "virtiofs" for share in domain.shares):
        # A virtiofsd reads and writes the guest's memory itself.
        memory = ET.SubElement(root, "memoryBacking")
        ET.SubElement(memory, "source", type="memfd")
        ET.SubElement(memory, "access", mode="shared")
    _boot(root, domain)
    _cpu(root, domain)
    ET.SubElement(root, "clock", offset="utc")
    reset = "restart" if domain.reboots else "destroy"
    for event, action in (("poweroff", "destroy"), ("reboot", reset), ("crash", "destroy")):
        _text(root, f"on_{event}", action)
    _devices(ET.SubElement(root, "devices"), domain)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _boot(root: ET.Element, domain: DomainSpec) -> None:
    system = ET.SubElement(root, "os")
    machine = hardware.machine(domain.arch).partition(",")[0]
    _text(system, "type", "hvm", arch=QEMU_ARCH[domain.arch], machine=machine)
    _text(system, "kernel", str(domain.kernel))
    _text(system, "initrd", str(domain.initramfs))
    _text(system, "cmdline", hardware.with_parameters(domain.cmdline, domain.arch, domain.accel))


def _cpu(root: ET.Element, domain: DomainSpec) -> None:
    features = ET.SubElement(root, "features")
    if domain.arch == "amd64":
        # On arm64 ACPI would need UEFI; a kernel booted directly is given a device tree.
        ET.SubElement(features, "acpi")
        ET.SubElement(features, "vmport", state="off")
    else:
        ET.SubElement(features, "gic", version="host" if domain.accel == "kvm" else "3")
    if domain.accel == "tcg":
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(_TB_CACHE_MIB), unit="MiB")
    cpu = ET.SubElement(root, "cpu", mode="maximum" if domain.accel == "tcg" else "host-passthrough")
    if domain.accel == "tcg" and domain.arch == "amd64":
        ET.SubElement(cpu, "feature", policy="disable", name=hardware.SLOW_COPIES)


def _devices(devices: ET.Element, domain: DomainSpec) -> None:
    _text(devices, "emulator", str(domain.qemu))
    # Unless told, libvirt puts each device behind a bridge of its own, which the guest takes time to find.
    _disk(devices, ROOT_DISK, domain.root_image, "root", slot=1)
    _disk(devices, DATA_DISK, domain.data_disk, "data", slot=2)
    network = ET.SubElement(devices, "interface", type="user")
    ET.SubElement(network, "mac", address=domain.mac)
    ET.SubElement(network, "model", type="virtio")
    subnet, _, prefix = domain.subnet.partition("/")
    ET.SubElement(network, "ip", family="ipv4", address=subnet, prefix=prefix)
    ET.SubElement(network, "rom", enabled="no")
    _slot(network, 3)
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", None, model="builtin")
    _slot(rng, 4)
    _slot(ET.SubElement(devices, "memballoon", model="virtio", autodeflate="on", freePageReporting="on"), 5)
    for number, disk in enumerate(domain.disks):
        _disk(devices, f"vd{chr(ord('c') + number)}", disk.path, disk.name, slot=_FIRST_MORE_SLOT + number)
    for slot, share in enumerate(domain.shares, _FIRST_MORE_SLOT + len(domain.disks)):
        filesystem = device_kind(share.kind).filesystem(share)
        _slot(filesystem, slot)
        devices.append(filesystem)
    # Not "off": the file is new for each boot, and virtlogd would also delete the boot before this one beside it.
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=str(domain.console), append="on")
    ET.SubElement(serial, "target", port="0")
    ET.SubElement(devices, "controller", type="usb", model="none")


def _disk(devices: ET.Element, name: str, path: Path, serial: str, *, slot: int) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    if name == ROOT_DISK:
        ET.SubElement(disk, "driver", name="qemu", type="raw")
    else:
        driver = ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap", detect_zeroes="unmap")
        driver.attrib |= {"error_policy": "stop", "rerror_policy": "report"}  # see the QEMU driver's
    ET.SubElement(disk, "source", file=str(path))
    ET.SubElement(disk, "target", dev=name, bus="virtio")
    if name == ROOT_DISK:
        ET.SubElement(disk, "readonly")
    _text(disk, "serial", serial)
    _slot(disk, slot)


def _slot(device: ET.Element, number: int) -> None:
    ET.SubElement(device, "address", type="pci", domain="0x0000", bus="0x00", slot=f"0x{number:02x}", function="0x0")


def _text(parent: ET.Element, tag: str, text: str | None, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
