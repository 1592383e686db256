"""How the guest mounts a disk: real file systems in files, without the mount."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

MIB = 1 << 20
PRELUDE = """\
disk=$root/disk
mark() { echo "mark $*"; }
fail() { echo "fail $*"; }
mount() { echo "mount"; }
"""
PLACES = {
    '[ -b "$disk" ]': '[ -f "$disk" ]',
    "/dev/console": "$root/console",
    "/sys/class/block/${disk#/dev/}/size": "$root/sectors",
}
MADE = ("-q", "-t", "ext4", "-m", "1", "-E", "assume_storage_prezeroed=1,nodiscard")  # as disk.sh has it


@pytest.fixture
def disk(tmp_path):
    if not shutil.which("/usr/sbin/mke2fs") or not shutil.which("hexdump"):
        pytest.skip("e2fsprogs or hexdump is missing")
    return tmp_path / "disk"


@pytest.fixture
def mount(run_script, disk):
    """What the guest says when it mounts the disk."""

    def run(size=0, label="hostvm-data", **programs):
        if size:
            disk.touch()
            os.truncate(disk, size)
        disk.with_name("sectors").write_text(f"{disk.stat().st_size // 512}\n")
        end = f"grow() {{ :; }}\nmount_disk data {label} /var"
        return run_script("guest/usr/lib/hostvm/disk.sh", PRELUDE, programs, PLACES, end=end)

    return run


def make(disk, size, label="hostvm-data"):
    disk.touch()
    os.truncate(disk, size)
    subprocess.run(["/usr/sbin/mke2fs", *MADE, "-L", label, disk], check=True, capture_output=True)


def erase(disk, size, begin=0):
    with disk.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(size))


def change(disk, *requests):
    """By debugfs; then the file system bears the mark that a kernel leaves when it meets such a thing."""
    for request in (*requests, "set_super_value state 2"):
        done = subprocess.run(
            ["/usr/sbin/debugfs", "-w", "-R", request, disk], capture_output=True, text=True, check=True
        )
        assert len(done.stderr.splitlines()) == 1, done.stderr  # its version


def is_sound(disk):
    return subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", disk], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("size", [64 * MIB, 3072 * MIB])
def test_a_blank_disk_gets_a_file_system(mount, disk, size):
    assert mount(size) == ["mark data-made", "mount", "mark data"]
    assert mount() == ["mount", "mark data"]
    assert is_sound(disk)


@pytest.mark.parametrize("size", [64 * MIB, 256 * MIB, 3072 * MIB, 60 << 30])
def test_what_a_power_cut_left_half_made_is_completed(mount, disk, size):
    make(disk, size)
    erase(disk, 4096)
    assert mount() == ["mark data-completed", "mount", "mark data"]
    assert is_sound(disk)
    assert mount() == ["mount", "mark data"]


def test_also_when_its_root_folder_was_not_written(mount, disk):
    make(disk, 3072 * MIB, "a-name-of-20-letters")
    told = subprocess.run(["/usr/sbin/debugfs", "-R", "imap <2>", disk], capture_output=True, text=True, check=True)
    table = int(told.stdout.partition("located at block ")[2].split(",")[0])
    erase(disk, 4096)
    erase(disk, 4096, table * 4096)
    assert mount(label="a-name-of-20-letters") == ["mark data-completed", "mount", "mark data"]
    assert is_sound(disk)


@pytest.mark.parametrize("size", [64 * MIB, 3072 * MIB, 60 << 30])
def test_a_disk_that_lost_its_begin_is_not_blank(mount, disk, size):
    make(disk, size)
    erase(disk, 4 * MIB)
    assert mount() == ["mark data-completed", "mount", "mark data"]
    assert is_sound(disk)


def test_what_lies_behind_it_is_still_there(mount, disk, tmp_path):
    make(disk, 60 << 30)
    (tmp_path / "kept").write_text("somebody's\n")
    write = ["/usr/sbin/debugfs", "-w", "-R", f"write {tmp_path / 'kept'} kept", disk]
    subprocess.run(write, check=True, capture_output=True)
    erase(disk, 4 * MIB)
    assert mount() == ["mark data-completed", "mount", "mark data"]
    shown = subprocess.run(["/usr/sbin/debugfs", "-R", "cat kept", disk], capture_output=True, text=True, check=True)
    assert shown.stdout == "somebody's\n"


COPIES = {64 * MIB: (8193, 24577, 40961), 3072 * MIB: (131072, 393216, 655360, 917504, 1179648)}
"""Where mke2fs puts copies of the superblock, in KiB."""


@pytest.mark.parametrize("size", COPIES)
@pytest.mark.parametrize("left", [-1, None], ids=["the last copy is left", "none is left"])
def test_nor_when_copies_are_lost_with_it(mount, disk, size, left):
    """Of a qcow2 file whose tables are damaged, half a gigabyte may read as zeros."""
    make(disk, size)
    erase(disk, 4 * MIB)
    for place in COPIES[size][:left]:
        erase(disk, 4096, place * 1024)
    assert mount() == (
        [f"fail data {disk} holds something that is not ext4; it was left alone"]
        if left
        else ["mark data-made", "mount", "mark data"]
    )


def test_a_disk_that_cannot_be_read_is_not_blank(mount, disk):
    told = [f"fail data {disk} holds something that is not ext4; it was left alone"]
    assert mount(64 * MIB, dd="exit 1") == told


def test_nothing_is_asked_for_behind_the_end_of_a_disk(mount, tmp_path):
    """A device gives no place there, and dd then reads all that is before."""
    asking = f'echo "$3" >> {tmp_path}/asked\nexec {shutil.which("dd")} "$@"'
    assert mount(64 * MIB, dd=asking) == ["mark data-made", "mount", "mark data"]
    assert (tmp_path / "asked").read_text().split() == ["skip=8193", "skip=24577", "skip=40961"]


WRONG = {
    "the mark alone": (),
    "counts": ("set_super_value free_blocks_count 7", "set_super_value free_inodes_count 7"),
    "an entry whose inode is gone": ("mkdir gone", "clri gone"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_a_kernel_found_wrong_is_repaired(mount, disk, tmp_path, wrong):
    make(disk, 64 * MIB)
    change(disk, "mkdir kept", *wrong)
    assert mount() == ["mark data-repaired", "mount", "mark data"]
    assert "check forced" in (tmp_path / "console").read_text(), "the console has e2fsck's own words"
    assert is_sound(disk)
    listed = subprocess.run(["/usr/sbin/debugfs", "-R", "ls -p /", disk], capture_output=True, text=True, check=True)
    assert "/kept/" in listed.stdout
    assert mount() == ["mount", "mark data"]


def test_what_takes_a_decision_is_left_to_its_owner(mount, disk, tmp_path):
    make(disk, 64 * MIB)
    change(disk, "clri <2>")
    for _ in range(2):
        assert mount() == [f"fail data e2fsck needs a decision on {disk}"]
        assert "RUN fsck MANUALLY" in (tmp_path / "console").read_text()
    assert not is_sound(disk)


@pytest.mark.parametrize(
    "why", ["another's label", "another's label and no begin", "something at its begin", "no copy"]
)
def test_all_else_is_left_alone(mount, disk, why):
    make(disk, 3072 * MIB, "backup" if "another's label" in why else "hostvm-data")
    erase(disk, 4 * MIB if "no begin" in why else 4096)
    if why == "something at its begin":
        with disk.open("r+b") as file:
            file.write(b"XFSB")
    if why == "no copy":
        erase(disk, 4096, 32768 * 4096)
    said = mount()
    assert len(said) == 1
    assert said[0].endswith("holds something that is not ext4; it was left alone")
    with disk.open("rb") as file:
        assert file.read(4096).strip(b"XFSB") == bytes(4096 if why != "something at its begin" else 4092)


def test_a_disk_is_not_mounted_where_a_link_leads(run_script, tmp_path):
    """A container can put one on the disk in which another one is mounted."""
    (tmp_path / "seed").mkdir()
    for number, name in enumerate(("outer", "inner", "below", "last")):
        (tmp_path / f"block/vd{'cdef'[number]}").mkdir(parents=True)
        (tmp_path / f"block/vd{'cdef'[number]}/serial").write_text(name)
    (tmp_path / "etc").mkdir()
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/link").symlink_to(tmp_path / "etc")
    targets = {"outer": "outer", "inner": "outer/link", "below": "outer/link/below", "last": "outer/last"}
    table = "".join(f"{name} {tmp_path}/{target}\n" for name, target in targets.items())
    (tmp_path / "seed/disks").write_text(table)
    places = {
        ". /usr/lib/hostvm/lib.sh": "seed=$root/seed",
        ". /usr/lib/hostvm/disk.sh": 'mount_disk() { echo "$disk $1 $2 $3"; }',
        "/sys/block": "$root/block",
    }
    prelude = """fail() { echo "fail $1"; }; trap 'echo "status $?"' EXIT"""
    assert run_script("guest/usr/lib/hostvm/disks", prelude, {}, places) == [
        f"/dev/vdc disk-outer outer {tmp_path}/outer",
        "fail disk-inner",
        "fail disk-below",
        f"/dev/vdf disk-last last {tmp_path}/outer/last",
        "status 1",
    ]
