"""Layers: what is kept, what is collected, and what a clone is refused. Disks are headers, no program runs."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hostvm import paths as places
from hostvm.errors import MachineError
from hostvm.machines import layers
from hostvm.machines.clone import children, require_free
from hostvm.machines.layers import collect_layers, freeze_disk, layers_lock
from hostvm.machines.remove import remove_machine
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
def box():
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


def test_a_failed_freeze_leaves_the_disk_alone(box, monkeypatch):
    def full(*_, **__):
        raise MachineError("cannot create the disk", "No space left on device", "df")

    monkeypatch.setattr(layers, "create_overlay", full)
    before = box.data_disk.read_bytes()
    with layers_lock() as folder, pytest.raises(MachineError, match="cannot create"):
        freeze_disk(box, folder, box.data_disk)
    assert box.data_disk.read_bytes() == before
    assert list(places.layers().iterdir()) == []


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
