"""A suspended machine's files: what binds a state to its disk, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from contextlib import nullcontext

import pytest

from hostvm.errors import MachineError
from hostvm.machines import saved as saving
from hostvm.machines.saved import Saved, check_files, digest, drop_saved, load_saved, stamp, store_saved
from hostvm.paths import MachinePaths

MIB = 1 << 20


@pytest.fixture
def paths(tmp_path):
    made = MachinePaths("box", tmp_path, tmp_path / "run")
    made.data_disk.write_bytes(b"disk")
    made.suspended_ram.write_bytes(b"ram")
    return made


@pytest.fixture
def saved(paths):
    made = Saved(
        suspended="2026-11-24T18:00:00Z",
        hypervisor="QEMU 7.2.22",
        board=["-m", "2048M"],
        disk=stamp(paths.data_disk),
        ram={"size": 3, "sum": digest(paths.suspended_ram)},
        domain={"name": "box"},
        engine_socket="/run/docker.sock",
        env={"A": "b"},
    )
    store_saved(paths, made)
    return made


def test_a_record_is_read_as_it_was_written(paths, saved):
    assert load_saved(paths) == saved
    check_files(paths, saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "odd": 2}', '{"version": 9}'])
def test_a_damaged_or_newer_record_is_refused_with_the_way_on(paths, text):
    paths.suspended.write_text(text)
    with pytest.raises(MachineError, match="machine box cannot be resumed") as caught:
        load_saved(paths)
    assert "hostvm start --discard-state box" in caught.value.resolution


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("board", "pc", 'board: "pc" is not a list of texts'),
        ("disks", {"data.qcow2": 5}, 'disks: {"data.qcow2": 5} is not a table of lists of whole numbers'),
        ("ram", {"size": 3}, 'ram: {"size": 3} is not the size and the sum of a memory'),
        ("version", float("inf"), "OverflowError"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named(paths, saved, key, value, told):
    paths.suspended.write_text(json.dumps({**dataclasses.asdict(saved), key: value}))
    with pytest.raises(MachineError, match="machine box cannot be resumed") as caught:
        load_saved(paths)
    assert f"{paths.suspended}: {told}" in caught.value.details


def test_every_key_has_a_kind():
    assert {one.type for one in dataclasses.fields(Saved)} <= set(saving._KINDS)


def test_a_flipped_bit_is_found(paths, saved):
    paths.suspended_ram.write_bytes(b"rcm")
    with pytest.raises(MachineError) as caught:
        check_files(paths, saved)
    assert "damaged" in caught.value.details


@pytest.mark.parametrize(("content", "sound"), [(b"ram", True), (b"rcm", False)])
def test_a_state_of_a_former_hostvm_is_checked_by_its_sha256(paths, saved, content, sound):
    ram = {"size": 3, "sha256": hashlib.sha256(bytes(8) + b"ram" + (3).to_bytes(8, "little")).hexdigest()}
    store_saved(paths, dataclasses.replace(saved, ram=ram, version=1))
    paths.suspended_ram.write_bytes(content)
    with nullcontext() if sound else pytest.raises(MachineError):
        check_files(paths, load_saved(paths))


def test_a_state_that_is_gone_is_refused(paths, saved):
    paths.suspended_ram.unlink()
    with pytest.raises(MachineError, match="cannot be resumed"):
        check_files(paths, saved)


def test_a_disk_that_was_written_to_is_refused_though_its_size_is_the_same(paths, saved):
    before = paths.data_disk.stat().st_mtime_ns
    paths.data_disk.write_bytes(b"DISK")
    os.utime(paths.data_disk, ns=(before + 1, before + 1))
    with pytest.raises(MachineError) as caught:
        check_files(paths, saved)
    assert "was changed after the machine was suspended at 2026-11-24T18:00:00Z" in caught.value.details


def test_dropping_removes_the_record_before_the_state(paths, saved, monkeypatch):
    def refuse(_):
        raise OSError("no")

    monkeypatch.setattr(saving, "remove_for_good", refuse)
    with pytest.raises(OSError, match="no"):
        drop_saved(paths)
    assert paths.suspended_ram.exists()
    monkeypatch.undo()
    assert drop_saved(paths) is True
    assert not paths.suspended.exists()
    assert not paths.suspended_ram.exists()
    assert drop_saved(paths) is False


def test_the_digest_is_of_the_contents_and_not_of_the_holes(tmp_path):
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    with sparse.open("wb") as file:
        file.write(b"a")
        file.seek(5 * MIB + 7)
        file.write(b"b")
        file.truncate(9 * MIB)
    full.write_bytes(sparse.read_bytes())
    assert digest(sparse) == digest(full)
    with full.open("r+b") as file:
        file.truncate(9 * MIB - 1)
    assert digest(sparse) != digest(full)
    with sparse.open("r+b") as file:
        file.seek(8 * MIB)
        file.write(b"c")
    assert digest(sparse) != digest(full)


def test_the_same_bytes_at_another_place_are_others(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * MIB + bytes(MIB))
    two.write_bytes(bytes(MIB) + b"x" * MIB)
    assert digest(one) != digest(two)


def test_the_record_holds_no_more_than_it_says(paths, saved):
    assert json.loads(paths.suspended.read_text()).keys() == {field.name for field in dataclasses.fields(Saved)}
    assert paths.suspended.stat().st_mode & 0o077 == 0
