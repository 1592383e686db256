"""Layers: what is kept, what is collected, and what a clone is refused. Disks are headers, no program runs."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hostvm import paths as places
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.machines import halt, layers, remove
from hostvm.machines import open as opened
from hostvm.machines.clone import children, require_free
from hostvm.machines.layers import collect_layers, freeze_disk, layers_lock
from hostvm.machines.remove import remove_machine
from hostvm.machines.saved import Saved, check_disk_is, load_saved, stamp, store_saved
from hostvm.machines.snapshots import remove_snapshot
from hostvm.paths import MachinePaths
from hostvm.state import MachineState, save_state
from images.progress import NullProgress

if TYPE_CHECKING:
    from pathlib import Path

STATE = MachineState("uuid-a", "52:54:00:00:00:01", "amd64", 1, "qemu", "sha256:0", "2026-11-24T18:00:00Z")


def qcow2(path: Path, beneath: str = "", *, used: bool = True) -> Path:
    name = beneath.encode()
    head = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 200 if name else 0, len(name), 16, 2**30, 0, 1, 1024)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((head.ljust(200, b"\0") + name).ljust(1024, b"\0") + (b"\x80" if used else b"\0") + bytes(7))
    return path


@pytest.fixture
def overlays(monkeypatch):
    """create_overlay without qemu-img."""

    def create(path, base, *, replacing=False):
        assert replacing or not path.exists()
        fresh = qcow2(path.with_name("fresh"), f"../{base.parent.name}/{base.name}", used=False)
        fresh.replace(path)

    monkeypatch.setattr(layers, "create_overlay", create)


@pytest.fixture
def box(monkeypatch):
    """A machine that is off. Disks in the list `in_use` are open in another process."""
    in_use: list[Path] = []

    def require(disk):
        if disk in in_use:
            raise MachineError("the disk of machine box is in use by another process")

    monkeypatch.setattr(layers, "require_unused", require)
    monkeypatch.setattr(opened, "require_unused", require)
    monkeypatch.setattr(MachinePaths, "in_use", in_use, raising=False)
    paths = MachinePaths.of("box")
    qcow2(paths.data_disk)
    save_state(paths, STATE)
    return paths


def test_a_frozen_disk_is_the_layer_and_the_machine_stands_on_it(box, overlays):
    before = box.data_disk.read_bytes()
    with layers_lock() as folder:
        layer = freeze_disk(box, folder, box.data_disk)
        assert layer.read_bytes() == before
        assert layers.backing_of(box.data_disk) == layer
        assert freeze_disk(box, folder, box.data_disk) == layer, "nothing was written since"
        qcow2(box.data_disk, f"../.layers/{layer.name}")
        assert freeze_disk(box, folder, box.data_disk) != layer


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_a_layer_is_kept_from_writers_but_on_windows_where_it_could_not_be_deleted(box, overlays, monkeypatch, system):
    """Of a file without the right to write Windows deletes no name, neither the layer's nor a snapshot's."""
    monkeypatch.setattr(layers, "sys", SimpleNamespace(platform=system), raising=False)
    with layers_lock() as folder:
        writable = freeze_disk(box, folder, box.data_disk).stat().st_mode & 0o200
    assert bool(writable) is (system == "win32")


def test_a_machine_whose_folder_a_scanner_looks_into_is_removed_on_windows(box, monkeypatch):
    real, busy = type(box.folder).replace, [PermissionError(13, "Access is denied")] * 2

    def held(self, target):
        if busy:
            raise busy.pop()
        real(self, target)

    with layers_lock() as folder:
        monkeypatch.setattr("hostvm.files.sys", SimpleNamespace(platform="win32"))
        monkeypatch.setattr(type(box.folder), "rename", held)
        monkeypatch.setattr(type(box.folder), "replace", held)
        layers.delete_folder(folder, box.folder)
    assert not box.folder.exists()


def test_a_failed_freeze_leaves_the_disk_alone(box, monkeypatch):
    def full(*_, **__):
        raise MachineError("cannot create the disk", "No space left on device", "df")

    monkeypatch.setattr(layers, "create_overlay", full)
    before = box.data_disk.read_bytes()
    with layers_lock() as folder, pytest.raises(MachineError, match="cannot create"):
        freeze_disk(box, folder, box.data_disk)
    assert box.data_disk.read_bytes() == before
    assert list(places.layers().iterdir()) == []


def test_a_disk_that_another_process_has_open_is_not_frozen(box, overlays):
    before = box.data_disk.read_bytes()
    box.in_use.append(box.data_disk)
    with layers_lock() as folder, pytest.raises(MachineError, match="in use by another process"):
        freeze_disk(box, folder, box.data_disk)
    assert box.data_disk.read_bytes() == before
    assert list(places.layers().iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["data.qcow2", "disk-more.qcow2"])
def test_a_machine_that_runs_unseen_is_not_removed(box, name, force):
    disk = qcow2(box.folder / name)
    box.in_use.append(disk)
    with pytest.raises(MachineError, match="in use by another process"):
        remove_machine(box, NullProgress(), force=force)
    assert disk.exists()
    box.in_use.clear()
    remove_machine(box, NullProgress(), force=force)
    assert not box.folder.exists()


@pytest.mark.parametrize("power", [DomainState.OFF, DomainState.RUNNING])
def test_a_machine_can_be_removed_from_a_disk_that_is_too_full_for_its_state(box, monkeypatch, power):
    def full(*_):
        raise OSError(28, "No space left on device")

    driver = SimpleNamespace(state=lambda: power, kill=lambda: None)
    monkeypatch.setattr(remove, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(halt, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(halt, "end_agent", lambda _: None)
    monkeypatch.setattr(remove, "end_agent", lambda _: None)
    monkeypatch.setattr(halt, "save_state", full)
    if power is DomainState.RUNNING:  # what failed came before its end
        with pytest.raises(OSError, match="No space left"):
            remove_machine(box, NullProgress(), force=True)
        assert box.data_disk.exists()
    else:
        remove_machine(box, NullProgress(), force=True)
        assert not box.folder.exists()


def test_ctrl_c_once_the_overlay_is_in_its_place_keeps_the_layer(box, overlays, monkeypatch):
    whole = layers.create_overlay

    def interrupted(path, base, *, replacing=False):
        whole(path, base, replacing=replacing)
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "create_overlay", interrupted)
    before = box.data_disk.read_bytes()
    with layers_lock() as folder:
        with pytest.raises(KeyboardInterrupt):
            freeze_disk(box, folder, box.data_disk)
        layer = layers.backing_of(box.data_disk)
        assert layer.read_bytes() == before
        assert collect_layers(folder) == []


def test_a_suspended_machine_whose_disk_was_being_frozen_goes_on(box, overlays, monkeypatch):
    saved = Saved("now", "QEMU 7.2.22", [], stamp(box.data_disk), {"size": 0, "sum": ""}, {}, "")
    store_saved(box, saved)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "store_saved", interrupted)
    with layers_lock() as folder, pytest.raises(KeyboardInterrupt):
        freeze_disk(box, folder, box.data_disk)
    assert stamp(box.data_disk) != saved.disk
    check_disk_is(box, load_saved(box))
    qcow2(box.data_disk, f"../.layers/{layers.backing_of(box.data_disk).name}")
    with pytest.raises(MachineError, match="cannot be resumed"):
        check_disk_is(box, load_saved(box))


def test_a_copy_is_as_old_as_what_it_is_of(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(layers.os, "link", no_links)
    source = qcow2(tmp_path / "data.qcow2")
    os.utime(source, ns=(1_000_000_000, 1_500_000_000))
    layers.link(source, tmp_path / "copy.qcow2")
    assert stamp(tmp_path / "copy.qcow2") == stamp(source)
    assert (tmp_path / "copy.qcow2").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be opened there")
def test_a_copy_is_on_the_disk_before_what_it_is_of_goes(tmp_path, monkeypatch):
    """After a power cut it would be empty, and the machine's disk, which it is, gone."""
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", note)
    layers.link(qcow2(tmp_path / "data.qcow2"), tmp_path / "copy.qcow2")
    assert flushed == [(tmp_path / "copy.qcow2").stat().st_ino, tmp_path.stat().st_ino]


def test_only_layers_that_nothing_stands_on_are_collected(box):
    with layers_lock() as folder:
        low = qcow2(folder / "low.qcow2")
        high = qcow2(folder / "high.qcow2", "low.qcow2")
        alone = qcow2(folder / "alone.qcow2")
        qcow2(box.data_disk, "../.layers/high.qcow2")
        assert collect_layers(folder) == [alone]
        assert low.exists()
        box.data_disk.unlink()
        assert collect_layers(folder) == [high, low]


@pytest.fixture
def roundabout(monkeypatch, tmp_path):
    """HOSTVM_HOME is named by a way that leads up again, as ../vms does."""
    (tmp_path / "project").mkdir()
    monkeypatch.setenv("HOSTVM_HOME", str(tmp_path / "project" / ".." / "vms"))


def test_a_layer_is_known_by_whatever_way_the_home_is_named(roundabout, box, overlays):
    """They were removed from below the disks that stood on them, and all data with them."""
    before = box.data_disk.read_bytes()
    with layers_lock() as folder:
        layer = freeze_disk(box, folder, box.data_disk)
        assert collect_layers(folder) == []
        assert layer.read_bytes() == before
        assert freeze_disk(box, folder, box.data_disk) == layer, "nothing was written since"


@pytest.fixture
def drive(box, tmp_path):
    """Where the machine's folder was moved to, with a link in its place."""
    folder = tmp_path / "drive" / "machines" / "box"
    folder.parent.mkdir(parents=True)
    box.folder.rename(folder)
    box.folder.symlink_to(folder)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_a_layer_stays_below_a_machine_that_was_moved_to_another_drive(box, drive):
    with layers_lock() as folder:
        layer, snapshots = qcow2(folder / "beneath.qcow2"), qcow2(folder / "kept.qcow2")
        qcow2(box.data_disk, os.path.relpath(layer, drive))
        record = box.snapshots / "kept" / "snapshot.json"
        record.parent.mkdir(parents=True)
        record.write_text('{"layers": {"data.qcow2": "kept.qcow2"}}')
        assert collect_layers(folder) == []
        drive.rename(drive.with_name("unplugged"))
        assert collect_layers(folder) == [], "nobody knows"
        drive.with_name("unplugged").rename(drive)
    remove_machine(box, NullProgress())
    assert not drive.exists()
    assert [path.name for path in box.folder.parent.iterdir()] == [".layers"]
    assert not layer.exists()
    assert not snapshots.exists()


def test_ctrl_c_keeps_the_layer_by_whatever_way_the_home_is_named(roundabout, box, overlays, monkeypatch):
    whole = layers.create_overlay

    def interrupted(path, base, *, replacing=False):
        whole(path, base, replacing=replacing)
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "create_overlay", interrupted)
    with layers_lock() as folder:
        with pytest.raises(KeyboardInterrupt):
            freeze_disk(box, folder, box.data_disk)
        assert layers.backing_of(box.data_disk).is_file()


def test_one_is_collected_where_what_is_read_only_is_not_deleted(box, monkeypatch):
    """On Windows: `hostvm rm` of whatever had a snapshot was refused by the system."""
    unlink = type(places.layers()).unlink

    def as_windows_does(path, *, missing_ok=False):
        if not path.stat().st_mode & 0o200:
            raise PermissionError(13, "Access is denied", str(path))
        unlink(path, missing_ok=missing_ok)

    with layers_lock() as folder:
        layer = qcow2(folder / "a.qcow2")
        layer.chmod(0o400)
        monkeypatch.setattr(type(layer), "unlink", as_windows_does)
        assert collect_layers(folder) == [layer]
        monkeypatch.undo()
    assert not layer.exists()


def test_nothing_is_collected_while_a_disk_or_a_record_cannot_be_read(box):
    with layers_lock() as folder:
        layer = qcow2(folder / "beneath.qcow2")
        box.data_disk.write_bytes(b"its header, that named beneath.qcow2, is damaged")
        assert collect_layers(folder) == []
        qcow2(box.data_disk)
        record = box.folder / "snapshots" / "kept" / "snapshot.json"
        record.parent.mkdir(parents=True)
        record.write_text("{")
        assert collect_layers(folder) == []
        record.unlink()
        assert collect_layers(folder) == [layer]


def test_what_a_removal_left_is_taken_along_by_the_next(box):
    machines = box.folder.parent
    kept = qcow2(places.layers() / "kept.qcow2")
    alone = qcow2(places.layers() / "alone.qcow2")
    qcow2(box.data_disk, "../.layers/kept.qcow2")
    rest = qcow2(machines / ".gone.removed" / "data.qcow2", "../.layers/alone.qcow2").parent
    half = box.snapshots / ".old.removed"
    half.mkdir(parents=True)
    (box.snapshots / "new").mkdir()
    remove_snapshot(box, "new")
    assert [path.exists() for path in (kept, alone, rest, half, box.data_disk)] == [True, False, False, False, True]
    rest.mkdir()
    remove_machine(box, NullProgress())
    assert sorted(path.name for path in machines.iterdir()) == [".layers"]
    assert list(places.layers().iterdir()) == []


def test_a_removal_that_is_refused_says_so_before_anything_is_undone(box):
    before = []
    box.in_use.append(box.data_disk)
    with pytest.raises(MachineError):
        remove_machine(box, NullProgress(), before=lambda: before.append("dropped"))
    assert before == []
    box.in_use.clear()
    remove_machine(box, NullProgress(), before=lambda: before.append(box.data_disk.exists()))
    assert before == [True]


def test_a_machine_with_clones_is_not_removed_by_itself(box):
    clone = MachinePaths.of("copy")
    clone.folder.mkdir(parents=True)
    save_state(clone, replace(STATE, uuid="uuid-b", parent="uuid-a"))
    assert children("uuid-a") == ["copy"]
    with pytest.raises(MachineError, match="machine box has clones: copy") as caught:
        remove_machine(box, NullProgress())
    assert "hostvm rm copy" in caught.value.resolution
    assert "hostvm rm --force box" in caught.value.resolution
    assert box.data_disk.exists()


def test_a_name_that_is_taken_is_refused(box):
    with pytest.raises(MachineError, match="machine box exists already"):
        require_free(box)
