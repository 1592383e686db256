from __future__ import annotations

import shlex
import sys

import pytest

from hostvm.drivers.qemu.argv import HostFacts, build_argv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the golden files hold POSIX paths")

LINUX = HostFacts((7, 2, 22), qmp_fd=5, quick_bios=True)


@pytest.mark.parametrize(
    ("arch", "accel", "facts"),
    [
        ("amd64", "tcg", LINUX),
        ("amd64", "kvm", LINUX),
        ("amd64", "hvf", HostFacts((10, 2, 0), qmp_fd=5, intel_mac=True)),
        ("amd64", "whpx", HostFacts((10, 1, 0))),
        ("arm64", "tcg", LINUX),
        ("arm64", "kvm", LINUX),
        ("arm64", "hvf", HostFacts((10, 2, 0), qmp_fd=5, intel_mac=True)),
        ("arm64", "whpx", HostFacts((11, 0, 0))),
    ],
)
def test_whole_command_line(golden, make_domain, arch, accel, facts):
    argv = build_argv(make_domain(arch, accel), facts)
    golden(f"{arch}-{accel}.txt", "\n".join(map(shlex.quote, argv)) + "\n")


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_whole_command_line_with_shares(golden, make_domain, shared_as, kind):
    argv = build_argv(make_domain(shares=shared_as(kind)), LINUX)
    golden(f"shares-{kind}.txt", "\n".join(map(shlex.quote, argv)) + "\n")


def test_without_the_small_firmware_qemu_takes_its_own(make_domain):
    assert "-bios" not in build_argv(make_domain("amd64", "tcg"), HostFacts((7, 2, 22)))


def test_memory_is_rounded_up_to_whole_mebibytes(make_domain):
    argv = build_argv(make_domain(memory=512 * 1024**2 - 1), LINUX)
    assert argv[argv.index("-m") + 1] == "512M"
    assert "memory-backend-ram,id=ram,size=512M" in argv
