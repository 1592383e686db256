"""Snapshots' records and refusals; no program runs."""

from __future__ import annotations

import json
import struct
from dataclasses import fields
from types import SimpleNamespace

import pytest
from machine_files import SAVED, STATE  # a helper of unit tests

from cli.completion import answer_for
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError, SpecError
from hostvm.facts import KINDS
from hostvm.machines import open as opened
from hostvm.machines import snapshots
from hostvm.machines.layers import collect_layers, layers_lock
from hostvm.machines.snapshots import (
    Snapshot,
    create_snapshot,
    list_snapshots,
    load_snapshot,
    newest_snapshot,
    put_disk_and_memory,
    remove_snapshot,
    restore_snapshot,
    snapshot_folder,
)
from hostvm.paths import MachinePaths, cache, layers
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from images.progress import NullProgress
from images.store import images_folder

DISK = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 2**30, 0, 1, 1024).ljust(1024, b"\0")


@pytest.fixture
def box(monkeypatch):
    """A machine that is off, whose disk is frozen into the layer `now.qcow2`."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=2**30, disk=2**31)))
    save_state(paths, STATE)

    def freeze(_, folder):
        (folder / "now.qcow2").write_bytes(DISK)
        return {"data.qcow2": "now.qcow2"}

    monkeypatch.setattr(snapshots, "freeze_disks", freeze)
    return paths


@pytest.fixture
def kept(box):
    """With memory."""
    folder = snapshot_folder(box, "kept")
    folder.mkdir(parents=True)
    facts = {"name": "kept", "created": "2026-01-01T00:00:00Z", "image": "sha256:0", "version": 1}
    facts["layers"] = {"data.qcow2": "old.qcow2"}
    (folder / "snapshot.json").write_text(json.dumps({**facts, "saved": SAVED}))
    (folder / "suspended.ram").write_bytes(b"ram")
    layers().mkdir(parents=True, exist_ok=True)
    (layers() / "old.qcow2").write_bytes(DISK)
    return folder


def create(paths, name):
    return create_snapshot(paths, name, NullProgress(), str)


def test_one_of_a_machine_that_is_off_has_no_memory(box):
    made = create(box, "cold")
    assert load_snapshot(box, "cold") == made
    assert (made.layers, made.memory, made.image) == ({"data.qcow2": "now.qcow2"}, 0, "sha256:0")


def test_its_layer_stays_as_long_as_it_does(box, kept):
    with layers_lock() as folder:
        assert collect_layers(folder) == []
    remove_snapshot(box, "kept")
    assert not kept.exists()
    assert list(layers().iterdir()) == []


def test_they_are_listed_by_age_and_completed(box, kept):
    create(box, "alater")
    assert [one.name for one in list_snapshots(box)] == ["kept", "alater"]
    assert ("kept", "snapshot") in answer_for(["-m", "box", "snapshot", "restore", ""]).items


def test_the_newest_is_the_one_made_last_though_the_clock_was_set_back(box, kept, monkeypatch):
    """By a day, and in one second; else a restore would take an older one, and with it what was made since."""
    for name, now in (("b", "2026-01-03T00:00:00Z"), ("c", "2026-01-02T00:00:00Z"), ("a", "2026-01-02T00:00:00Z")):
        monkeypatch.setattr(snapshots, "_now", lambda now=now: now)
        assert create(box, name).created == now
        assert newest_snapshot(box).name == name
    assert [one.name for one in list_snapshots(box)] == ["kept", "b", "c", "a"]
    remove_snapshot(box, "a")
    assert create(box, "d").number == 3


def test_a_name_that_is_taken_or_impossible_is_refused(box, kept):
    with pytest.raises(MachineError, match="has a snapshot kept already") as caught:
        create(box, "kept")
    assert "hostvm snapshot rm -m box kept" in caught.value.resolution
    with pytest.raises(SpecError, match=r"'\.\./x' cannot be a snapshot's name"):
        create(box, "../x")


def test_an_unknown_one_is_refused_with_those_there_are(box, kept):
    for use in (lambda: restore_snapshot(box, "none", NullProgress()), lambda: remove_snapshot(box, "none")):
        with pytest.raises(MachineError, match="machine box has no snapshot none") as caught:
            use()
        assert caught.value.details == "snapshots there: kept"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "snapshot.json").write_text("{"), "JSONDecodeError"),
        (lambda folder: (folder / "snapshot.json").write_text('{"version": 9}'), "newer hostvm"),
        (lambda folder: (folder / "suspended.ram").write_bytes(b"x"), "its memory is gone or damaged"),
        (lambda _: (layers() / "old.qcow2").unlink(), "its disk is gone"),
    ],
)
def test_a_damaged_one_is_refused_before_anything_changes(box, kept, spoil, why):
    spoil(kept)
    with pytest.raises(MachineError, match="snapshot kept of machine box cannot be used") as caught:
        restore_snapshot(box, "kept", NullProgress())
    assert why in caught.value.details


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("name", 5, "name: 5 is not a text"),
        ("created", None, "created: null is not a text"),
        ("layers", ["a.qcow2"], 'layers: ["a.qcow2"] is not a table of texts'),
        ("layers", {"data.qcow2": 7}, 'layers: {"data.qcow2": 7} is not a table of texts'),
        ("image", {}, "image: {} is not a text"),
        ("number", "2", 'number: "2" is not a whole number'),
        ("version", True, "version: true is not a whole number"),
        ("version", float("inf"), "OverflowError"),
        ("saved", [], "saved: [] is not a table"),
        ("saved", {**SAVED, "board": 1}, "saved.board: 1 is not a list of texts"),
        ("saved", {**SAVED, "disk": ["1"]}, 'saved.disk: ["1"] is not a list of whole numbers'),
        (
            "saved",
            {**SAVED, "ram": {"size": "3", "sum": ""}},
            'saved.ram: {"size": "3", "sum": ""} is not the size and the sum of a memory',
        ),
        ("saved", {key: SAVED[key] for key in SAVED if key != "ram"}, "saved.ram is missing"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named(box, kept, key, value, told):
    record = kept / "snapshot.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), key: value}))
    with pytest.raises(MachineError, match="snapshot kept of machine box cannot be used") as caught:
        load_snapshot(box, "kept")
    assert f"{record}: {told}" in caught.value.details
    assert "hostvm snapshot rm -m box kept" in caught.value.resolution
    assert list_snapshots(box) == []


def test_every_key_has_a_kind():
    assert {one.type for one in fields(Snapshot)} <= set(KINDS)


def test_a_machine_that_runs_unseen_is_not_restored(box, kept, monkeypatch):
    def in_use(disk):
        raise MachineError(f"{disk} is in use by another process")

    monkeypatch.setattr(opened, "require_unused", in_use)
    box.data_disk.write_bytes(DISK)
    box.suspended.write_text("{}")
    with pytest.raises(MachineError, match=r"data\.qcow2 is in use"):
        restore_snapshot(box, "kept", NullProgress())
    assert box.suspended.exists()
    assert box.data_disk.read_bytes() == DISK


def test_a_suspended_machine_that_becomes_a_stopped_one_is_woken_by_nobody(box, monkeypatch):
    ended = []
    driver = SimpleNamespace(state=lambda: DomainState.OFF, kill=lambda: None)
    monkeypatch.setattr(snapshots, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(snapshots, "create_overlay", lambda path, *_, **__: path.write_bytes(b"new"))
    monkeypatch.setattr(snapshots, "end_sleeper", ended.append)
    create(box, "cold")
    assert not restore_snapshot(box, "cold", NullProgress())
    assert ended == [box.run_dir]


@pytest.fixture
def other(monkeypatch, kept):
    """A machine that is off, and what would load a snapshot's memory; what is done to the machine is written down."""
    told = SimpleNamespace(done=[], hypervisor="QEMU 7.2.22", board=[])
    driver = SimpleNamespace(
        state=lambda: DomainState.OFF,
        kill=lambda: told.done.append("kill"),
        hypervisor=lambda _: told.hypervisor,
        board=lambda _: told.board,
    )
    for name, stand_in in {
        "machine_driver": lambda *_: driver,
        "domain_of": lambda _: None,
        "same_domain": lambda *_: None,
        "require_disks_unused": lambda _: None,
        "end_agent": lambda _: told.done.append("agent"),
        "create_overlay": lambda path, *_, **__: told.done.append(path.name),
        "end_sleeper": lambda _: told.done.append("sleeper"),
        "resume": lambda *_: told.done.append("resume"),
    }.items():
        monkeypatch.setattr(snapshots, name, stand_in)
    return told


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"hypervisor": "QEMU 10.0.2"}, "its memory is QEMU 7.2.22's, here is QEMU 10.0.2"),
        ({"board": ["-m", "1G"]}, "its virtual hardware would be another one: now -m 1G, then "),
    ],
)
def test_memory_that_cannot_be_loaded_is_told_before_the_machine_is_given_up_for_it(box, other, facts, why):
    """As after an upgrade of QEMU."""
    box.data_disk.write_bytes(DISK)
    box.suspended.write_text("{}")
    for name, value in facts.items():
        setattr(other, name, value)
    with pytest.raises(MachineError, match="snapshot kept of machine box cannot be used") as caught:
        restore_snapshot(box, "kept", NullProgress())
    assert caught.value.details == why
    assert caught.value.resolution.splitlines()[0] == (
        "its disks alone: hostvm start box --from-snapshot kept --discard-state"
    )
    assert other.done == []
    assert box.suspended.exists()
    assert not restore_snapshot(box, "kept", NullProgress(), disk_only=True)
    assert other.done == ["agent", "kill", "data.qcow2", "sleeper"]
    assert not box.suspended.exists()


def test_memory_that_can_be_loaded_goes_on(box, other):
    box.data_disk.write_bytes(DISK)
    assert restore_snapshot(box, "kept", NullProgress())
    assert other.done == ["agent", "kill", "data.qcow2", "resume"]


def test_memory_of_another_image_is_refused(box, kept):
    save_state(box, MachineState(**{**{name: getattr(STATE, name) for name in STATE.__slots__}, "image": "sha256:1"}))
    with pytest.raises(MachineError) as caught:
        restore_snapshot(box, "kept", NullProgress())
    assert "belongs to the guest image sha256:0; the machine has sha256:1 now" in caught.value.details
    assert caught.value.resolution == "remove it: hostvm snapshot rm -m box kept", "there is no such image any more"
    (images_folder(cache()) / "0").mkdir(parents=True)
    with pytest.raises(MachineError) as caught:
        restore_snapshot(box, "kept", NullProgress())
    assert "hostvm upgrade box --image 0\n" in caught.value.resolution


def test_a_full_disk_leaves_no_half_a_snapshot(box, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    box.suspended.write_text(json.dumps({**SAVED, "version": 1}))
    monkeypatch.setattr(snapshots, "link", full)
    with pytest.raises(OSError, match="No space left"):
        create(box, "cold")
    assert list(box.snapshots.iterdir()) == []


def test_laid_into_a_machine_it_is_a_suspended_one(box, kept, monkeypatch):
    monkeypatch.setattr(snapshots, "create_overlay", lambda path, *_, **__: path.write_bytes(b"new"))
    put_disk_and_memory(box, load_snapshot(box, "kept"), kept)
    assert json.loads(box.suspended.read_text())["disk"][0] == 3
    assert box.suspended_ram.read_bytes() == b"ram"


def test_a_machine_is_not_given_up_for_a_snapshot_that_a_full_disk_would_not_take(box, monkeypatch):
    """It would be off, and its memory gone, when its new disk finds no room."""
    driver = SimpleNamespace(state=lambda: DomainState.OFF, kill=lambda: pytest.fail("its power was cut"))
    monkeypatch.setattr(snapshots, "machine_driver", lambda *_: driver)
    create(box, "cold")
    box.suspended.write_text("{}")
    monkeypatch.setattr(snapshots.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**21 - 1))
    with pytest.raises(MachineError, match="to snapshot cold: this computer's disk is full") as caught:
        restore_snapshot(box, "cold", NullProgress())
    assert caught.value.resolution.startswith(f"free some space: df -h {box.folder}\n")
    assert box.suspended.exists()
