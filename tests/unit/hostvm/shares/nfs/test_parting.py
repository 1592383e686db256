"""Who removes files does not wait until the disk has freed them."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.shares.nfs import parting, wire

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is held elsewhere")


@pytest.fixture
def disk(monkeypatch):
    """Frees nothing until it is set."""
    ready, real = threading.Event(), parting._close

    def close(descriptor):
        assert ready.wait(20)
        real(descriptor)

    monkeypatch.setattr(parting, "_close", close)
    yield ready
    ready.set()


def removed(folder):
    """Descriptors that this process has of files that were removed there."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with_name = os.path.realpath(one)
        if with_name.startswith(f"{folder}/") and with_name.endswith(" (deleted)"):
            found.append(with_name)
    return found


def export_of(guest):
    return next(iter(guest.exports.values()))


@pytest.mark.parametrize("is_open", [True, False])
def test_a_removal_is_answered_before_the_disk_has_freed_the_file(guest, folder, xdr, disk, is_open):
    (folder / "f").write_text("content")
    handle = guest.lookup("f")
    if is_open:
        guest.read(handle)
    assert guest.remove("f") == wire.OK
    assert not (folder / "f").exists()
    assert len(removed(folder)) == 1
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE
    disk.set()
    until(lambda: not removed(folder), 20)


def test_so_is_a_rename_over_a_file(guest, folder, disk):
    for name in ("a", "b"):
        (folder / name).write_text(name)
    guest.read(guest.lookup("b"))
    assert guest.rename("a", "b") == wire.OK
    assert (folder / "b").read_text() == "a"
    assert len(removed(folder)) == 1
    disk.set()
    until(lambda: not removed(folder), 20)


@pytest.mark.parametrize("what", ["rmdir", "list", "let go"])
def test_what_could_see_a_file_by_another_name_waits_until_it_is_freed(guest, folder, disk, what):
    """As on NFS and FUSE."""
    (folder / "d").mkdir()
    (folder / "d" / "f").write_text("content")
    inner = guest.lookup("d")
    assert guest.remove("f", inner) == wire.OK
    acts = {
        "rmdir": lambda: guest.remove("d", procedure=wire.RMDIR),
        "list": lambda: guest.piece(inner),
        "let go": export_of(guest).close,
    }
    acting = threading.Thread(target=acts[what])
    acting.start()
    acting.join(0.2)
    assert acting.is_alive()
    disk.set()
    acting.join(20)
    assert not removed(folder)
    assert (folder / "d").exists() == (what != "rmdir")


def test_of_many_files_some_are_freed_at_once(guest, folder, disk, monkeypatch):
    monkeypatch.setattr(parting, "_DELAY_SECONDS", 600)
    monkeypatch.setattr(parting, "_BEGUN", 1000)
    disk.set()
    for number in range(40):
        (folder / f"f{number}").write_text("content")
        assert guest.remove(f"f{number}") == wire.OK
    assert len(removed(folder)) == parting._MOST
    export_of(guest).parting.settle()
    assert not removed(folder)


def test_what_is_large_or_has_another_name_is_not_held(guest, folder, disk):
    (folder / "large").write_bytes(b"x" * 1024 * 1024)
    (folder / "two").write_text("content")
    os.link(folder / "two", folder / "names")
    for name in ("large", "two"):
        guest.read(guest.lookup(name))
        assert guest.remove(name) == wire.OK
        assert not export_of(guest).parting._waiting
    assert not [one for one in removed(folder) if one.endswith("/large (deleted)")]


def test_without_threads_files_are_freed_at_once(guest, folder, disk, monkeypatch):
    def refused(_):
        raise RuntimeError("can't start new thread")

    disk.set()
    (folder / "f").write_text("content")
    guest.read(guest.lookup("f"))
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert guest.remove("f") == wire.OK
    assert not removed(folder)
