"""What stays open, how long, and what that keeps others from."""

from __future__ import annotations

import errno
import os
import sys
import time

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.shares.nfs import descriptors, wire
from hostvm.shares.nfs.server import NfsServer
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

spawn = getattr(os, "posix_spawn", None)
"""As it is before a fixture takes it away: the system alone tells whether a file may be executed."""


def executed(path):
    """How a program ends."""
    return os.waitstatus_to_exitcode(os.waitpid(spawn(str(path), [str(path)], {}), 0)[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses to execute what is open for writing")
def test_a_script_can_be_executed_as_soon_as_it_is_written(guest, folder):
    handle = guest.create("script", 0o755)
    guest.write(handle, b"#!/bin/sh\nexit 7\n")
    assert executed(folder / "script") == 7
    guest.write(handle, b"8", 15)
    assert executed(folder / "script") == 8, "nor later"
    (folder / "old").write_text("#!/bin/sh\nexit 9\n")
    (folder / "old").chmod(0o755)
    handle = guest.lookup("old")
    guest.write(handle, b"6", 15)
    assert guest.commit(handle) == wire.OK
    assert executed(folder / "old") == 6


def test_what_is_not_used_is_closed(guest, folder, monkeypatch):
    (folder / "f").write_text("x")
    handle = guest.lookup("f")
    files = next(iter(guest.exports.values())).files
    guest.write(handle, b"y")
    guest.read(handle)
    written, read = (files._open[guest.attributes(handle).number, write].descriptor for write in (True, False))
    now = time.monotonic()
    monkeypatch.setattr(descriptors.time, "monotonic", lambda: now + descriptors._WRITTEN_SECONDS + 0.1)
    assert files.sweep()
    os.fstat(read)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(written)
    monkeypatch.setattr(descriptors.time, "monotonic", lambda: now + descriptors._READ_SECONDS + 0.1)
    assert not files.sweep()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(read)


def test_what_a_guest_leaves_is_closed_by_itself(guest, folder, monkeypatch):
    monkeypatch.setattr("hostvm.shares.nfs.server._SWEEP_SECONDS", 0.02)
    for name in ("_WRITTEN_SECONDS", "_READ_SECONDS"):
        monkeypatch.setattr(descriptors, name, 0.05)
    (folder / "f").write_text("x")
    handle = guest.lookup("f")
    files = next(iter(guest.exports.values())).files
    guest.write(handle, b"y")
    guest.read(handle)
    assert len(files._open) == 2
    until(lambda: not files._open, 20)
    until(lambda: guest.server._sweeper is None, 20)


@pytest.mark.parametrize("act", ["fstat", "close"])
def test_a_file_system_that_is_gone_keeps_nothing_else_open(guest, folder, monkeypatch, act):
    """What else was written must be closed, or nobody here could execute it."""
    monkeypatch.setattr(descriptors, "_WRITTEN_SECONDS", -1)
    handles = []
    for name in ("gone", "there"):
        (folder / name).write_text("x")
        handles.append(guest.lookup(name))
        guest.write(handles[-1], b"y")
    files = next(iter(guest.exports.values())).files
    gone, there = (files._open[guest.attributes(handle).number, True].descriptor for handle in handles)
    real = getattr(os, act)

    def fail(descriptor):
        found = real(descriptor)
        if descriptor == gone:
            raise OSError(errno.ENOTCONN, "its server has ended")
        return found

    monkeypatch.setattr(os, act, fail)
    assert not files.sweep()
    monkeypatch.undo()
    for descriptor in (gone, there):
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("when", ["sweep", "trim", "commit"])
def test_what_only_closing_a_file_tells_is_told_who_wrote_it(guest, folder, monkeypatch, when):
    monkeypatch.setattr(descriptors, "_WRITTEN_SECONDS", -1)
    (folder / "f").write_text("x")
    handle = guest.lookup("f")
    guest.write(handle, b"y")
    files = next(iter(guest.exports.values())).files
    written = files._open[guest.attributes(handle).number, True].descriptor
    real = os.close

    def fail(descriptor):
        real(descriptor)
        if descriptor == written:
            raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        if when == "sweep":
            assert not files.sweep()
        if when == "trim":
            patch.setattr(descriptors, "_MOST", 0)
            guest.create("another")
        if when == "commit":
            assert guest.commit(handle) == 28
    if when != "commit":
        assert guest.commit(handle) == 28
    assert guest.commit(handle) == wire.OK, "it is told once"


def test_a_write_that_fails_leaves_nothing_open_for_ever(guest, folder, xdr, monkeypatch):
    monkeypatch.setattr("hostvm.shares.nfs.server._SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(descriptors, "_WRITTEN_SECONDS", 0.05)
    (folder / "f").touch()
    words = (xdr.text(guest.lookup("f")), u64(0), u32(1), u32(0), xdr.text(b"x"))

    def full(*words):
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr("hostvm.shares.nfs.contents.write_at", full)
    assert guest.status(wire.WRITE, *words) == 28
    files = next(iter(guest.exports.values())).files
    until(lambda: not files._open, 20)


def test_no_more_than_some_stay_open(guest, monkeypatch):
    monkeypatch.setattr(descriptors, "_MOST", 3)
    handles = [guest.create(f"f{number}") for number in range(9)]
    files = next(iter(guest.exports.values())).files
    assert len(files._open) == 3
    assert [guest.read(handle) for handle in handles] == [(b"", True)] * 9
    assert len(files._open) == 3


def test_a_file_that_is_removed_here_stays_readable_while_it_is_open(guest, folder):
    (folder / "f").write_text("content")
    handle = guest.lookup("f")
    guest.read(handle)
    (folder / "f").unlink()
    assert guest.read(handle) == (b"content", True)
    assert guest.attributes(handle).links == 1, "the guest's kernel takes a file without any for one that is gone"


def test_a_file_without_permissions_is_written_by_whoever_made_it(guest, folder):
    """It was opened before its mode counted."""
    handle = guest.create("f", 0o000)
    guest.write(handle, b"one")
    guest.write(handle, b"two", 3)
    next(iter(guest.exports.values())).files.close()
    guest.write(handle, b"!", 6)
    assert (folder / "f").stat().st_mode & 0o777 == 0
    assert (folder / "f").stat().st_size == 7


def test_a_share_that_is_let_go_has_nothing_open(guest, folder, xdr):
    handle = guest.create("f")
    export = next(iter(guest.exports.values()))
    assert export.files._open
    guest.server.let_go(export)
    guest.server.let_go(export)
    assert not export.files._open
    export.tree.close()
    words = (xdr.text(handle), u64(0), u32(1))
    assert guest.status(wire.READ, *words) == 19
    assert isinstance(guest.server, NfsServer)
