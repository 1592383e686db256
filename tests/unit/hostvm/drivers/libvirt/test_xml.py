from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest

from hostvm.drivers.libvirt.xml import build_domain

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


def test_what_people_write_is_escaped(make_domain, tmp_path):
    odd = tmp_path / "a <b> & \"c\" 'd', é"
    root = ET.fromstring(build_domain(make_domain(data_disk=odd, cmdline="a=<1>&2")))
    assert root.findtext("os/cmdline") == "a=<1>&2 clearcpuid=cx16 cpuidle.off=1"
    assert root.find("devices/disk[2]/source").get("file") == str(odd)


def test_whole_domain_with_more_disks(golden, make_domain, shared_as, more_disks):
    golden("disks.xml", build_domain(make_domain(shares=shared_as("9p"), disks=more_disks)))
