"""What is read and written, on a real folder."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

ACCES, INVAL = 13, 22


def test_write_read_commit(guest, folder):
    handle = guest.create("file", 0o751)
    assert guest.write(handle, b"hello") in (wire.UNSTABLE, wire.FILE_SYNC)
    guest.write(handle, b"J", 0)
    assert guest.read(handle, 3, 1) == (b"ell", False)
    assert guest.read(handle) == (b"Jello", True)
    assert guest.read(handle, 3, 5) == (b"", True)
    assert guest.commit(handle) == wire.OK
    assert (folder / "file").read_text() == "Jello"
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o751, "whatever our umask is"


@pytest.mark.parametrize("how", [wire.DATA_SYNC, wire.FILE_SYNC])
def test_a_write_that_asks_for_the_disk_is_on_it(guest, folder, monkeypatch, how):
    (folder / "old").touch()
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    assert guest.write(guest.lookup("old"), b"x", how=how) == how
    assert synced == [(folder / "old").stat().st_ino]


def test_a_write_tells_what_was_there_before(guest, folder, xdr):
    (folder / "f").write_text("four")
    before = (folder / "f").stat()
    words = (u64(4), u32(2), u32(wire.UNSTABLE), xdr.text(b"+2"))
    was, now = xdr.told(guest.well(wire.WRITE, xdr.text(guest.lookup("f")), *words))
    assert was == (4, before.st_mtime_ns, before.st_ctime_ns)
    assert (now.size, now.number) == (6, guest.attributes(guest.lookup("f")).number)


def test_a_pipe_is_not_opened(guest, folder, xdr):
    os.mkfifo(folder / "pipe")
    words = (xdr.text(guest.lookup("pipe")), u64(0), u32(1))
    assert guest.status(wire.READ, *words) == ACCES


@pytest.mark.parametrize("procedure", [wire.READ, wire.WRITE, wire.COMMIT, wire.SETATTR])
def test_a_file_that_is_gone_is_stale_for_its_content_too(guest, folder, xdr, procedure):
    """ENOENT is no answer of these: a program would be told that of its open file."""
    (folder / "f").write_text("content")
    handle = guest.lookup("f")
    (folder / "f").unlink()
    words = {
        wire.READ: (u64(0), u32(9)),
        wire.WRITE: (u64(0), u32(1), u32(0), xdr.text(b"x")),
        wire.COMMIT: (u64(0), u32(0)),
        wire.SETATTR: (xdr.wish(size=0), u32(0)),
    }[procedure]
    assert guest.status(procedure, xdr.text(handle), *words) == wire.STALE


@pytest.mark.parametrize("at", [2**63, 2**64 - 1])
def test_places_beyond_any_file_are_refused(guest, folder, xdr, at):
    """The connection goes on: the guest would ask the same of the next one."""
    handle = xdr.text(guest.create("f"))
    status, reader = guest.ask(wire.READ, handle, u64(at), u32(1))
    assert status == INVAL or (xdr.maybe(reader), reader.u32(), reader.u32())[1:] == (0, 1)
    assert guest.status(wire.WRITE, handle, u64(at), u32(1), u32(0), xdr.text(b"x")) in (INVAL, 27)
    assert guest.status(wire.SETATTR, handle, xdr.wish(size=at), u32(0)) in (INVAL, 27)
    assert guest.status(wire.COMMIT, handle, u64(at), u32(0)) == wire.OK
    assert (folder / "f").stat().st_size == 0
