from __future__ import annotations

import itertools
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.drivers.qemu.argv import HostFacts, board_words, build_argv, incoming_argv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the golden files hold POSIX paths")

LINUX = HostFacts((7, 2, 22), qmp_fd=5, quick_bios=True)
PLACES = ("qemu", "kernel", "initramfs", "root_image", "data_disk", "console", "run_dir")


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


def test_apple_silicon_boots_the_kernel_itself(make_domain):
    """What every arm64 machine under hvf must have: no firmware, the first serial port of the board as console."""
    argv = build_argv(make_domain("arm64", "hvf"), HostFacts((10, 2, 0), qmp_fd=5, intel_mac=True, quick_bios=True))
    value = dict(itertools.pairwise(argv))
    assert value["-machine"] == "virt,gic-version=max,memory-backend=ram"
    assert (value["-accel"], value["-cpu"]) == ("hvf", "host")
    assert "console=ttyAMA0" in value["-append"].split()
    assert not {"-bios", "-pflash", "-drive"} & set(argv)


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_whole_command_line_with_shares(golden, make_domain, shared_as, kind):
    argv = build_argv(make_domain(shares=shared_as(kind)), LINUX)
    golden(f"shares-{kind}.txt", "\n".join(map(shlex.quote, argv)) + "\n")


def test_whole_command_line_with_more_disks(golden, make_domain, shared_as, more_disks):
    argv = build_argv(make_domain(shares=shared_as("9p"), disks=more_disks), LINUX)
    golden("disks.txt", "\n".join(map(shlex.quote, argv)) + "\n")


def test_a_guest_that_resets_itself_ends_qemu_only_where_that_is_meant(make_domain):
    usual, ends = (build_argv(make_domain(reboots=reboots), LINUX) for reboots in (True, False))
    assert [word for word in ends if word not in usual] == ["-no-reboot"]
    assert len(ends) == len(usual) + 1


@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_whole_command_line_with_a_generation(golden, make_domain, accel):
    argv = build_argv(make_domain("amd64", accel, generation=True), LINUX)
    golden(f"generation-{accel}.txt", "\n".join(map(shlex.quote, argv)) + "\n")


def test_the_small_firmware_which_halts_at_a_generation_is_not_taken_then(make_domain):
    """Of a state that was saved before there were any, it is: the saved memory has it."""
    assert "-bios" not in build_argv(make_domain("amd64", "tcg", generation=True), LINUX)
    former = build_argv(make_domain("amd64", "tcg"), LINUX)
    assert former[former.index("-bios") + 1] == "qboot.rom"
    assert not [word for word in former if "vmgenid" in word]


def test_without_the_small_firmware_qemu_takes_its_own(make_domain):
    assert "-bios" not in build_argv(make_domain("amd64", "tcg"), HostFacts((7, 2, 22)))


def test_memory_is_rounded_up_to_whole_mebibytes(make_domain):
    argv = build_argv(make_domain(memory=512 * 1024**2 - 1), LINUX)
    assert argv[argv.index("-m") + 1] == "512M"
    assert "memory-backend-ram,id=ram,size=512M" in argv


def test_a_qemu_that_waits_for_a_saved_state_forwards_nothing_yet(make_domain):
    domain = make_domain()
    cold, waiting = build_argv(domain, LINUX), incoming_argv(domain, LINUX)
    assert waiting[-3:] == ["-incoming", "defer", "-S"]
    changed = [pair for pair in zip(cold, waiting, strict=False) if pair[0] != pair[1]]
    assert [new.startswith("user,id=net0") and "hostfwd" not in new for _, new in changed] == [True]


def test_a_board_is_the_same_wherever_its_files_are(make_domain, shared_as, more_disks):
    domain = make_domain(shares=shared_as("9p"), disks=more_disks)
    disks = tuple(replace(disk, path=Path("/elsewhere")) for disk in more_disks)
    moved = replace(domain, **dict.fromkeys(PLACES, Path("/elsewhere")), firmware=(Path("/fw"),), ssh_port=1)
    moved = replace(moved, disks=disks)
    assert board_words(moved, LINUX) == board_words(domain, replace(LINUX, qmp_fd=7))


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": 7},
        {"memory": 1 << 30},
        {"accel": "kvm"},
        {"shares": ()},
        {"mac": "52:54:00:00:00:00"},
        {"generation": True},
    ],
)
def test_a_board_is_another_one_with_other_hardware(make_domain, shared_as, change):
    domain = make_domain(shares=shared_as("9p"))
    assert board_words(replace(domain, **change), LINUX) != board_words(domain, LINUX)
