"""The pure parts of a machine's start: its seed, its kernel's parameters, its identity, its console's marks."""

from __future__ import annotations

import json

import pytest

from hostvm.console import SSH_MARK, ConsoleMark, EngineTrouble, panics
from hostvm.guest_images import kernel_cmdline
from hostvm.machines.identity import mac_of, new_uuid
from hostvm.machines.open import is_others
from hostvm.machines.seed import boot_initramfs, seed_entries
from hostvm.paths import MachinePaths


@pytest.fixture
def entries(tmp_path):
    paths = MachinePaths("box", tmp_path, tmp_path / "run")
    return {entry.path: entry for entry in seed_entries(paths, "boot-1", "0a1b2c3d-0000-4000-8000-00000000000f", {})}


def test_the_seed_has_the_names_that_the_guest_knows(entries):
    assert sorted(entries) == [
        "seed",
        "seed/authorized_keys",
        "seed/boot_id",
        "seed/hostname",
        "seed/machine_id",
        "seed/ssh_host_ed25519_key",
        "seed/ssh_host_ed25519_key.pub",
    ]
    assert entries["seed/hostname"].data == b"box\n"
    assert entries["seed/machine_id"].data == b"0a1b2c3d00004000800000000000000f\n"
    assert entries["seed/boot_id"].data == b"boot-1\n"


def test_private_parts_of_the_seed_are_private(entries):
    # sshd refuses a host key that anyone else may read.
    assert entries["seed/ssh_host_ed25519_key"].mode & 0o777 == 0o600
    assert entries["seed"].mode & 0o777 == 0o700
    assert b"OPENSSH PRIVATE KEY" in entries["seed/ssh_host_ed25519_key"].data
    assert entries["seed/authorized_keys"].data.startswith(b"ssh-ed25519 ")


def test_the_seed_follows_the_images_initramfs_aligned(entries):
    both = boot_initramfs(b"12345", list(entries.values()))
    assert both.startswith(b"12345" + bytes(3) + b"070701")


def test_kernel_parameters_follow_the_accelerator():
    manifest = {"console": "ttyS0", "cmdline": "quiet", "cmdline_tcg": "clearcpuid=cx16"}
    assert kernel_cmdline(manifest, "kvm") == "console=ttyS0 quiet"
    assert kernel_cmdline(manifest, "tcg") == "console=ttyS0 quiet clearcpuid=cx16"


def test_a_mac_address_follows_from_the_id():
    assert mac_of("0a1b2c3d-0000-4000-8000-000000000000") == "52:54:00:0a:1b:2c"
    assert new_uuid() != new_uuid()


def test_a_mark_is_seen_once_it_is_whole(tmp_path):
    console = tmp_path / "console.log"
    mark = ConsoleMark(console, SSH_MARK)
    console.write_bytes(b"hostvm-guest: mark root 1\r\nServer list")
    assert not mark.seen()
    with console.open("ab") as file:
        file.write(b"ening on 0.0.0.0 port 22.\r\n")
    assert mark.seen()
    console.write_bytes(b"")
    assert mark.seen()


def test_without_a_console_nothing_is_waited_for(tmp_path):
    assert ConsoleMark(tmp_path / "none", SSH_MARK).seen()


def test_a_console_that_begins_anew_is_read_anew(tmp_path):
    console = tmp_path / "console.log"
    console.write_bytes(b"x" * 100)
    mark = ConsoleMark(console, SSH_MARK)
    assert not mark.seen()
    console.write_bytes(SSH_MARK + b"3\n")
    assert mark.seen()


PANIC = b"[    9.1] Kernel panic - not syncing: sysrq triggered crash\r\n"
BOOT = b"hostvm-guest: mark root 1.5\r\n"


@pytest.mark.parametrize("end", [PANIC, BOOT, PANIC + BOOT])
def test_a_mark_of_the_boot_before_a_panic_is_not_this_boots(tmp_path, end):
    console = tmp_path / "console.log"
    console.write_bytes(BOOT + SSH_MARK + b" port 22.\r\n")
    before = ConsoleMark(console, SSH_MARK)
    assert before.seen()
    with console.open("ab", buffering=0) as file:
        file.write(end)
        later = ConsoleMark(console, SSH_MARK)
        assert (before.seen(), later.seen()) == (False, False)
        file.write(BOOT + SSH_MARK + b" port 22.\r\n")
    assert (before.seen(), later.seen()) == (True, True)


def test_trouble_of_the_engine_before_a_panic_is_not_this_boots(tmp_path):
    console = tmp_path / "console.log"
    console.write_bytes(BOOT + b"hostvm-guest: fail engine dockerd ended\r\n")
    trouble = EngineTrouble(console)
    assert trouble() == "engine dockerd ended"
    with console.open("ab", buffering=0) as file:
        file.write(PANIC)
        assert (trouble(), EngineTrouble(console)()) == ("", "")
        file.write(BOOT + b"hostvm-guest: fail engine it was killed\r\n")
    assert trouble() == "engine it was killed"


def test_an_engine_that_came_up_after_all_is_in_no_trouble(tmp_path):
    console = tmp_path / "console.log"
    trouble = EngineTrouble(console)
    assert not trouble()
    console.write_bytes(b"begin\nhostvm-guest: fail engi")
    assert not trouble()
    with console.open("ab") as file:
        file.write(b"ne dockerd ended\n")
    assert trouble()
    with console.open("ab") as file:
        file.write(b'msg="API listen on /run/docker.sock"\n')
    assert not trouble()
    console.write_bytes(b"hostvm-guest: fail engine x\n")  # a new boot
    assert trouble()


def test_panics_of_a_kernel_are_told_once_each(tmp_path):
    console = tmp_path / "console.log"
    assert panics(console) == []
    console.write_text(
        "[    9.1] Kernel panic - not syncing: sysrq triggered crash\r\n"
        "[    9.2] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n"
        "[    3.1] Kernel panic - not syncing: Fatal exception in interrupt\r\n"
    )
    assert panics(console) == ["sysrq triggered crash", "Fatal exception in interrupt"]


@pytest.fixture
def pair(tmp_path):
    """A machine, and its copy in another HOSTVM_HOME, with one run folder."""
    run_dir = tmp_path / "run" / "ci"
    both = [MachinePaths("ci", tmp_path / home / "ci", run_dir) for home in ("one", "two")]
    for paths in both:
        paths.folder.mkdir(parents=True)
        paths.data_disk.write_bytes(b"")
    run_dir.mkdir(parents=True)
    return both


def test_a_run_folder_is_that_of_the_machine_whose_disk_it_names(pair):
    own, copy = pair
    assert not is_others(own), "nothing ran yet"
    own.domain.write_text(json.dumps({"data_disk": str(own.data_disk)}))
    assert (is_others(own), is_others(copy)) == (False, True)
    moved = MachinePaths("ci", own.folder.parent / "link", own.run_dir)
    moved.folder.symlink_to(own.folder)
    assert not is_others(moved), "the same file by another way"
    copy.data_disk.unlink()
    assert is_others(copy)
    copy.data_disk.write_bytes(b"")
    own.data_disk.rename(own.folder / "away")
    assert not is_others(copy), "its home was moved here"
    own.domain.write_text("{")
    assert not is_others(copy)
