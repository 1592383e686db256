"""What is on the disk when."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.shares.nfs import lasting, wire
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

IO = 5


@pytest.fixture
def done(monkeypatch, folder):
    """What was synced and changed, in order; files by the names that they had at first."""
    order, names = [], {}
    real_fsync, real_write = os.fsync, os.pwrite

    def name_of(descriptor):
        number = os.fstat(descriptor).st_ino
        for one in folder.iterdir():
            names.setdefault(one.stat().st_ino, one.name)
        return names.get(number, "?")

    def sync(descriptor):
        real_fsync(descriptor)
        order.append(("sync", name_of(descriptor)))

    def write(descriptor, data, offset):
        order.append(("write", name_of(descriptor)))
        return real_write(descriptor, data, offset)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "pwrite", write)
    for act in ("unlink", "rename", "link", "replace", "rmdir", "ftruncate"):
        real = getattr(os, act)

        def noted(*words, act=act, real=real, **named):
            order.append((act,))
            return real(*words, **named)

        monkeypatch.setattr(os, act, noted)
    return order


@pytest.fixture
def by_itself(monkeypatch):
    """How soon new files are synced without a cause; here never, unless a test says so."""
    monkeypatch.setattr(lasting, "_DELAY_SECONDS", 600)
    return lambda seconds: monkeypatch.setattr(lasting, "_DELAY_SECONDS", seconds)


def commit(guest, xdr, handle):
    """The answer, or None where it comes later."""
    return guest.send(wire.COMMIT, xdr.text(handle), u64(0), u32(0))


def test_a_new_files_first_commit_is_answered_at_once_and_synced_a_moment_later(guest, xdr, done, by_itself):
    by_itself(0.1)
    handle = guest.create("f")
    assert commit(guest, xdr, handle) is not None
    assert done == []
    until(lambda: done, 20)
    assert done == [("sync", "f")]
    assert commit(guest, xdr, handle) is None, "the second one waits"
    guest.later.get(timeout=20)
    assert done == [("sync", "f")] * 2


def test_a_new_files_first_write_needs_no_commit(guest, done, by_itself):
    by_itself(0.1)
    assert guest.write(guest.create("f"), b"content") == wire.FILE_SYNC
    until(lambda: len(done) == 2, 20)
    assert done == [("write", "f"), ("sync", "f")]


def test_a_new_file_that_was_renamed_here_is_what_is_synced(guest, folder, monkeypatch, by_itself):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    handle = guest.create("f")
    (folder / "f").rename(folder / "mine")
    (folder / "f").write_text("another")
    how = guest.write(handle, b"x")
    guest.server._lasting.drain()
    assert how == wire.UNSTABLE or synced == [(folder / "mine").stat().st_ino]


def test_many_new_files_are_not_left_to_wait_until_there_can_be_no_more(guest, done, by_itself):
    """By time or a cause they never are here."""
    for number in range(lasting._WAITING_BEGUN - 1):
        guest.write(guest.create(f"f{number}"), b"x")
    time.sleep(0.1)
    assert {one[0] for one in done} == {"write"}
    for number in range(lasting._WAITING_BEGUN - 1, 40):
        guest.write(guest.create(f"f{number}"), b"x")
        until(lambda: len(guest.server._lasting._waiting) < lasting._WAITING_BEGUN, 20)
    written = [name for what, name in done if what == "write"]
    until(lambda: sum(one[0] == "sync" for one in done) > len(written) - lasting._WAITING_BEGUN, 20)
    assert guest.later.empty(), "nobody waited for the disk"


@pytest.mark.parametrize("act", ["write", "ftruncate", "rename", "replace", "unlink", "link", "rmdir"])
def test_what_waits_is_on_the_disk_before_anything_else_is_changed(guest, folder, xdr, done, by_itself, act):
    (folder / "old").write_text("old")
    (folder / "d").mkdir()
    old, root = guest.lookup("old"), guest.root
    for name in ("a", "b"):
        guest.write(guest.create(name), b"x")
    guest.make(wire.SYMLINK, "l", xdr.wish(), xdr.text("a"))
    assert [one[0] for one in done] == ["write", "write"], "what is made builds on nothing"
    done.clear()
    procedure, words = {
        "write": (wire.WRITE, (old, u64(0), u32(1), u32(0), xdr.text(b"y"))),
        "ftruncate": (wire.SETATTR, (old, xdr.wish(size=1), u32(0))),
        "rename": (wire.RENAME, (root, xdr.text("old"), xdr.text(root), xdr.text("new"))),
        "replace": (wire.RENAME, (root, xdr.text("a"), xdr.text(root), xdr.text("old"))),
        "unlink": (wire.REMOVE, (root, xdr.text("old"))),
        "link": (wire.LINK, (old, xdr.text(root), xdr.text("new"))),
        "rmdir": (wire.RMDIR, (root, xdr.text("d"))),
    }[act]
    assert guest.status(procedure, xdr.text(words[0]), *words[1:]) == wire.OK
    assert done[:2] == [("sync", "a"), ("sync", "b")]
    assert [one[0] for one in done[2:]] == ["replace" if act == "rename" else act]


def test_new_files_are_written_without_waiting_for_each_other(guest, done, by_itself):
    handles = [guest.create(f"f{number}") for number in range(5)]
    for handle in handles * 2:
        assert guest.write(handle, b"x") == wire.FILE_SYNC
    assert {one[0] for one in done} == {"write"}


def test_an_old_files_commit_is_answered_when_it_is_on_the_disk(guest, folder, xdr, monkeypatch):
    (folder / "old").write_text("old")
    handle = guest.lookup("old")
    guest.write(handle, b"x")
    may, synced = threading.Event(), []

    def sync(descriptor):
        assert may.wait(20)
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    assert commit(guest, xdr, handle) is None
    assert guest.attributes(handle).size == 3, "others are answered meanwhile"
    assert guest.later.empty()
    may.set()
    answer = guest.later.get(timeout=20)
    assert synced == [(folder / "old").stat().st_ino]
    assert answer[24:28] == bytes(4)


def test_what_waits_is_on_the_disk_before_an_old_files_commit_is_answered(guest, folder, done, by_itself):
    (folder / "old").write_text("old")
    handle = guest.lookup("old")
    guest.write(handle, b"y")
    guest.write(guest.create("a"), b"x")
    done.clear()
    assert guest.commit(handle) == wire.OK
    assert done == [("sync", "a"), ("sync", "old")]


@pytest.mark.parametrize(("fault", "code"), [(errno.EIO, IO), (errno.ENOSPC, 28), (errno.EDQUOT, 69)])
def test_a_sync_that_fails_is_told(guest, folder, xdr, monkeypatch, fault, code):
    (folder / "old").write_text("old")
    handle = guest.lookup("old")
    guest.write(handle, b"x")

    def refuse(descriptor):
        raise OSError(fault, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    assert guest.commit(handle) == code
    words = (xdr.text(handle), u64(0), u32(1), u32(wire.FILE_SYNC), xdr.text(b"x"))
    assert guest.status(wire.WRITE, *words) == code


@pytest.mark.parametrize("by_whom", ["the act itself", "itself, before"])
def test_nothing_takes_the_place_of_a_file_that_could_not_be_put_on_the_disk(guest, folder, monkeypatch, by_whom):
    """A program writes a new file, closes it well, and renames it over the old one: that is kept."""
    monkeypatch.setattr(lasting, "_DELAY_SECONDS", 0.02 if by_whom == "itself, before" else 600)
    (folder / "old").write_text("old")
    tried = []

    def refuse(descriptor):
        tried.append(descriptor)
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", refuse)
    handle = guest.create("new")
    assert guest.write(handle, b"new") == wire.FILE_SYNC
    if by_whom == "itself, before":
        until(lambda: guest.log, 20)
    assert guest.rename("new", "old") == 28
    assert (folder / "old").read_text() == "old"
    assert len(tried) == 1
    assert guest.log == ["shares: what a container wrote could not be put on the disk: no room"]
    assert guest.remove("new") == wire.OK, "it is told once"


@pytest.mark.parametrize(("seconds", "code"), [(59, 28), (61, wire.OK)])
def test_who_acts_long_after_a_failure_has_nothing_to_do_with_it(guest, folder, monkeypatch, by_itself, seconds, code):
    (folder / "old").touch()

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", refuse)
    by_itself(0.02)
    guest.write(guest.create("new"), b"new")
    until(lambda: guest.log, 20)
    now = time.monotonic()
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now + seconds)
    assert guest.remove("old") == code


def test_a_failure_is_logged_once_a_minute_though_nobody_acts(guest, folder, monkeypatch, by_itself):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", refuse)
    now, passed = time.monotonic(), [0]
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now + passed[0])
    for seconds, lines in ((0, 1), (59, 1), (180, 2)):
        passed[0] = seconds
        guest.write(guest.create(f"after-{seconds}"), b"new")
        guest.server._lasting._sync()
        assert len(guest.log) == lines
    assert guest.rename("after-0", "moved") == 28
    assert guest.rename("after-0", "moved") == wire.OK


def test_what_waits_is_on_the_disk_when_the_agent_ends(guest, done, by_itself):
    guest.write(guest.create("f"), b"x")
    guest.server.end()
    assert done == [("write", "f"), ("sync", "f")]


def test_an_agent_ends_though_the_disk_refuses(guest, monkeypatch, by_itself):
    def refuse(descriptor):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    guest.write(guest.create("f"), b"x")
    guest.server.end()
    assert len(guest.log) == 1


def test_what_a_files_own_commit_tells_is_not_told_again(guest, monkeypatch, by_itself):
    by_itself(0.02)

    def refuse(descriptor):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    handle = guest.create("f")
    guest.write(handle, b"x")
    until(lambda: guest.log, 20)
    assert guest.commit(handle) == IO
    assert guest.remove("f") == wire.OK


def test_a_file_that_was_made_long_ago_is_not_new(guest, xdr, monkeypatch, done):
    monkeypatch.setattr(lasting, "_FRESH_SECONDS", -1.0)
    handle = guest.create("f")
    assert guest.write(handle, b"x") == wire.UNSTABLE
    assert commit(guest, xdr, handle) is None
    guest.later.get(timeout=20)
    assert done == [("write", "f"), ("sync", "f")]


def test_what_was_made_long_ago_is_forgotten_and_the_rest_is_not(guest, monkeypatch):
    """However many files are made, what is told of each takes the same time."""
    files = guest.server._lasting
    now = time.monotonic()
    for at, file in enumerate("abcda"):
        monkeypatch.setattr(lasting.time, "monotonic", lambda at=at: now + at)
        files.made(file)
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now + lasting._FRESH_SECONDS + 2.5)
    assert [files.is_fresh(file) for file in "abcd"] == [True, False, False, True]
    files.made("e")
    assert list(files._fresh) == ["d", "a", "e"]
