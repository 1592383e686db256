from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest

from hostvm.drivers.base import DiskDevice
from hostvm.drivers.libvirt.xml import build_domain
from hostvm.shares.choose import device_shares
from hostvm.shares.model import Mount

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the golden files hold POSIX paths")


@pytest.mark.parametrize(
    ("arch", "accel"),
    [("amd64", "tcg"), ("amd64", "kvm"), ("amd64", "hvf"), ("arm64", "tcg"), ("arm64", "kvm"), ("arm64", "hvf")],
)
def test_whole_domain(golden, make_domain, arch, accel):
    golden(f"{arch}-{accel}.xml", build_domain(make_domain(arch, accel)))


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_whole_domain_with_shares(golden, make_domain, shared_as, kind):
    golden(f"shares-{kind}.xml", build_domain(make_domain(shares=shared_as(kind))))


def test_whole_domain_with_a_generation(golden, make_domain):
    golden("generation.xml", build_domain(make_domain(generation=True)))


def test_what_people_write_is_escaped(make_domain, tmp_path):
    odd = tmp_path / "a <b> & \"c\" 'd', é"
    root = ET.fromstring(build_domain(make_domain(data_disk=odd, cmdline="a=<1>&2")))
    assert root.findtext("os/cmdline") == "a=<1>&2 clearcpuid=cx16,erms,fsrm cpuidle.off=1"
    assert root.find("devices/disk[2]/source").get("file") == str(odd)


def test_whole_domain_that_does_not_boot_anew(golden, make_domain):
    golden("no-reboot.xml", build_domain(make_domain(reboots=False)))


def test_whole_domain_with_more_disks(golden, make_domain, shared_as, more_disks):
    golden("disks.xml", build_domain(make_domain(shares=shared_as("9p"), disks=more_disks)))


@pytest.mark.parametrize("disks", [0, 9, 16])
def test_as_many_disks_and_folders_as_there_may_be_have_slots(make_domain, tmp_path, disks):
    """Of the first PCI bus, whose last one is the board's own. Folders beyond that the agent serves."""
    mounts = [Mount(str(tmp_path / f"{number}"), f"/mnt/{number}", kind="9p") for number in range(17)]
    for mount in mounts:
        (tmp_path / mount.source).mkdir()
    shares = device_shares(mounts, tmp_path, disks=disks)
    more = tuple(DiskDevice(f"disk{number}", tmp_path / f"{number}") for number in range(disks))
    root = ET.fromstring(build_domain(make_domain(shares=shares, disks=more)))
    slots = [int(str(one.get("slot")), 16) for one in root.iterfind("devices//address")]
    assert sorted(slots) == list(range(1, len(slots) + 1))
    assert len(slots) == 5 + disks + len(shares)
    assert max(slots) < 31
    assert len(shares) == min(16, 25 - disks)
