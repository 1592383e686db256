from __future__ import annotations

from pathlib import Path

import pytest

from hostvm.accel.probe import CONSOLES
from hostvm.drivers.base import DiskDevice, DomainSpec
from hostvm.qemu_binary import QEMU_ARCH
from hostvm.shares.device import DeviceShare

UUID = "5a1c3a52-6f1f-4a7c-a0c3-5bb0e9a3c001"


@pytest.fixture
def make_domain():
    """A domain; its paths have what paths of people have."""

    def make(arch: str = "amd64", accel: str = "tcg", **changes) -> DomainSpec:
        home = Path("/home/a, b/machines/box")
        facts = {
            "name": "box",
            "uuid": UUID,
            "arch": arch,
            "cpus": 2,
            "memory": 2 * 1024**3,
            "accel": accel,
            "qemu": Path(f"/usr/bin/qemu-system-{QEMU_ARCH[arch]}"),
            "kernel": Path("/cache/images/sha256/ab/vmlinuz"),
            "initramfs": home / "initramfs",
            "cmdline": f"console={CONSOLES[arch]} quiet panic=1",
            "root_image": Path("/cache/images/sha256/ab/root.erofs"),
            "data_disk": home / "data.qcow2",
            "mac": "52:54:00:12:34:56",
            "ssh_port": 42022,
            "console": home / "console.log",
            "run_dir": Path("/run/user/1000/hostvm/box"),
        }
        return DomainSpec(**{**facts, **changes})

    return make


@pytest.fixture
def more_disks():
    """Two further disks."""
    home = Path("/home/a, b/machines/box")
    return tuple(DiskDevice(name, home / f"disk-{name}.qcow2") for name in ("scratch", "builds"))


@pytest.fixture
def shared_as():
    """A home folder and a read-only one, as devices."""

    def make(kind: str) -> tuple[DeviceShare, ...]:
        run = Path("/run/user/1000/hostvm/box")
        return tuple(
            DeviceShare(kind, tag, source, str(source), readonly, run / f"{tag}.sock" if kind == "virtiofs" else None)
            for tag, source, readonly in (
                ("share0", Path("/home/a, b"), False),
                ("share1", Path("/data/é"), True),
            )
        )

    return make
