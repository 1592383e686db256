from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

from hostvm import disks, process
from hostvm.disks import DiskInfo
from hostvm.errors import HostvmError, MachineError

GIB = 1024**3


@pytest.fixture
def calls(monkeypatch):
    """qemu-img as far as these functions know it: `create` makes the file, `info` tells 2 GiB."""
    made: list[tuple[str, ...]] = []

    def run(argv, **_):
        made.append(tuple(argv)[1:])
        if argv[1] == "create":
            Path(argv[-2]).write_bytes(b"QFI\xfb")
        told = {"format": "qcow2", "virtual-size": 2 * GIB, "actual-size": 196624}
        return process.Result(tuple(argv), 0, json.dumps(told).encode(), b"")

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(disks, "find_qemu_img", lambda: Path("/usr/bin/qemu-img"))
    return made


def test_a_disk_appears_whole_and_private(calls, tmp_path):
    disks.create_disk(tmp_path / "data.qcow2", GIB)
    (command,) = calls
    assert command[:4] == ("create", "-q", "-f", "qcow2")
    assert command[-1] == str(GIB)
    assert (tmp_path / "data.qcow2").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["data.qcow2"]


def test_a_disk_is_never_overwritten(calls, tmp_path):
    disk = tmp_path / "data.qcow2"
    disk.write_bytes(b"precious")
    with pytest.raises(MachineError, match="there is already a disk at"):
        disks.create_disk(disk, GIB)
    assert disk.read_bytes() == b"precious"
    assert calls == []


def test_not_even_one_that_appears_meanwhile(calls, tmp_path, monkeypatch):
    disk = tmp_path / "data.qcow2"
    real = process.run

    def run(argv, **options):
        disk.write_bytes(b"precious")
        return real(argv, **options)

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(MachineError, match="it is never overwritten"):
        disks.create_disk(disk, GIB)
    assert disk.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["data.qcow2"]


def test_without_hard_links_it_is_renamed(calls, tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(disks.os, "link", no_links)
    disks.create_disk(tmp_path / "data.qcow2", GIB)
    assert (tmp_path / "data.qcow2").exists()


def test_a_failed_creation_leaves_nothing(calls, tmp_path, monkeypatch):
    def full(*_, **__):
        raise HostvmError("qemu-img failed", "No space left on device")

    monkeypatch.setattr(process, "run", full)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        disks.create_disk(tmp_path / "data.qcow2", GIB)
    assert caught.value.brief == f"cannot create the disk {tmp_path / 'data.qcow2'}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("why", ["No space left on device", "Disk quota exceeded"])
@pytest.mark.parametrize(("folder", "there"), [("box", "box"), (".box.new", ".")])
def test_on_a_full_disk_what_to_do_names_a_folder_that_is_there(calls, tmp_path, monkeypatch, folder, there, why):
    """A machine that is being made is gone again when its error is read."""

    def full(*_, **__):
        raise HostvmError("qemu-img failed", f"qemu-img: Could not write qcow2 header: {why}")

    place = tmp_path / folder
    place.mkdir()
    monkeypatch.setattr(process, "run", full)
    with pytest.raises(MachineError) as caught:
        disks.create_disk(place / "data.qcow2", GIB)
    assert caught.value.details.startswith("this computer's disk is full\nqemu-img: ")
    assert caught.value.resolution == f"free some space: df -h {tmp_path / there}\nthen run the same command again"


@pytest.fixture
def disk(tmp_path):
    """The header of a qcow2 of 2 GiB."""
    path = tmp_path / "d"
    path.write_bytes(b"QFI\xfb" + bytes(20) + (2 * GIB).to_bytes(8, "big") + bytes(72))
    return path


def test_growing(calls, disk):
    disks.grow_disk(disk, 3 * GIB)
    assert calls == [("resize", "-q", "-f", "qcow2", str(disk), str(3 * GIB))]


def test_growing_to_the_same_size_does_nothing(calls, disk):
    disks.grow_disk(disk, 2 * GIB)
    assert calls == []


def test_shrinking_is_refused(calls, disk):
    with pytest.raises(MachineError, match="cannot become smaller") as caught:
        disks.grow_disk(disk, GIB)
    assert calls == []
    assert "disk: 2GiB" in caught.value.resolution


def test_the_size_of_what_is_no_disk(tmp_path):
    (tmp_path / "d").write_bytes(b"x" * 100)
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    for name in ("d", "short", "missing"):
        with pytest.raises(MachineError, match="not a qcow2 file"):
            disks.disk_size(tmp_path / name)


def test_info_also_while_a_guest_has_it_open(calls, tmp_path):
    assert disks.disk_info(tmp_path / "d") == DiskInfo("qcow2", 2 * GIB, 196624)
    assert calls == [("info", "-U", "-f", "qcow2", "--output=json", str(tmp_path / "d"))]


def told_by(monkeypatch, status, said=b""):
    """Let qemu-img end so."""
    asked = []

    def run(argv, **_):
        asked.append(tuple(argv)[1:])
        return process.Result(tuple(argv), status, b"", said)

    monkeypatch.setattr(process, "run", run)
    return asked


LOCKED = [
    b"qemu-img: Could not open 'd': Failed to get shared \"write\" lock\nIs another process using the image [d]?\n",
    b"qemu-img: Could not open 'd': The process cannot access the file because it is being used by another process.\n",
]


@pytest.mark.parametrize("said", LOCKED)
def test_a_disk_that_another_process_has_open_is_refused_with_what_tells_which(calls, tmp_path, monkeypatch, said):
    asked = told_by(monkeypatch, 1, said)
    monkeypatch.setattr(disks, "_ENDING_SECONDS", 0.0)
    disk = tmp_path / "box" / "data.qcow2"
    with pytest.raises(MachineError, match="the disk of machine box is in use by another process") as caught:
        disks.require_unused(disk)
    assert asked == [("info", "-f", "qcow2", str(disk))], "without -U, which asks for no lock"
    assert "HOSTVM_RUN or XDG_RUNTIME_DIR" in caught.value.details
    assert f"fuser -v {disk}" in caught.value.resolution


def test_a_hypervisor_that_is_about_to_end_is_waited_for(calls, tmp_path, monkeypatch):
    asked = told_by(monkeypatch, 1, LOCKED[0])
    monkeypatch.setattr(disks.time, "sleep", lambda _: told_by(monkeypatch, 0))
    disks.require_unused(tmp_path / "d")
    assert len(asked) == 1


def test_a_disk_of_which_it_cannot_be_told_passes(calls, tmp_path, monkeypatch):
    disks.require_unused(tmp_path / "free")
    told_by(monkeypatch, 1, b"qemu-img: Could not open 'd': Image is not in qcow2 format\n")
    disks.require_unused(tmp_path / "damaged")

    def missing():
        raise HostvmError("qemu-img was not found")

    monkeypatch.setattr(disks, "find_qemu_img", missing)
    disks.require_unused(tmp_path / "d")


@pytest.mark.parametrize("said", LOCKED)
def test_a_disk_that_cannot_be_looked_at_for_its_lock_is_not_called_damaged(calls, tmp_path, monkeypatch, said):
    told_by(monkeypatch, 1, said)
    with pytest.raises(MachineError, match="in use by another process"):
        disks.check_disk(tmp_path / "d")


def qcow2(path: Path, *, size: int = GIB, beneath: str = "", table: bytes = bytes(16)) -> Path:
    """A header as far as these functions read it, the name of the disk beneath, the first table."""
    name = beneath.encode()
    head = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 200 if name else 0, len(name), 16, size, 0, len(table) // 8, 1024)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((head.ljust(200, b"\0") + name).ljust(1024, b"\0") + table)
    return path


def test_an_overlay_names_what_is_beneath_from_its_own_folder(tmp_path):
    base = qcow2(tmp_path / "machines" / ".layers" / "a.qcow2")
    disk = qcow2(tmp_path / "machines" / "box" / "data.qcow2", beneath="../.layers/a.qcow2")
    assert disks.backing_of(disk) == base
    assert disks.backing_of(base) is None


def test_an_overlay_is_made_without_copying_and_may_take_a_disks_place(calls, tmp_path):
    base = qcow2(tmp_path / "layers" / "a.qcow2", size=3 * GIB)
    disk = qcow2(tmp_path / "box" / "data.qcow2")
    with pytest.raises(MachineError, match="there is already a disk"):
        disks.create_overlay(disk, base)
    disks.create_overlay(disk, base, replacing=True)
    (command,) = calls
    assert command[command.index("-b") + 1] == "../layers/a.qcow2"
    assert command[-1] == str(3 * GIB)
    assert disk.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in disk.parent.iterdir()] == ["data.qcow2"]


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there, and names are read first")
def test_an_overlay_behind_a_link_names_what_is_beneath_as_the_kernel_finds_it(calls, tmp_path):
    """QEMU opens FOLDER/../layers/..., which leads to where the link does."""
    base, drive = qcow2(tmp_path / "layers" / "a.qcow2"), tmp_path / "another" / "drive"
    drive.mkdir(parents=True)
    (tmp_path / "box").symlink_to(drive)
    disk = tmp_path / "box" / "data.qcow2"
    disks.create_overlay(disk, base)
    named = calls[0][calls[0].index("-b") + 1]
    assert (disk.parent / named).samefile(base)
    qcow2(disk, beneath=named)
    assert disks.backing_of(disk).samefile(base)


@pytest.mark.parametrize(
    ("options", "empty"),
    [
        ({}, True),
        ({"table": bytes(8) + b"\x80" + bytes(7)}, False),
        ({"size": 2 * GIB}, False),
        ({"beneath": ""}, False),
    ],
)
def test_an_overlay_that_was_never_written_to_is_told(tmp_path, options, empty):
    qcow2(tmp_path / "a.qcow2")
    disk = qcow2(tmp_path / "b.qcow2", **{"beneath": "a.qcow2", **options})
    assert disks.holds_nothing(disk) is empty
