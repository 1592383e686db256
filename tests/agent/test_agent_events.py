"""The small program that acts changes out, run as in a guest: what it does, and that it says so."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from agent_rig import connect_to, until

from hostvm.shares import unanswered
from hostvm.shares.events import Helper, act_of
from hostvm.shares.known import Known
from hostvm.shares.unanswered import Unanswered

EVENTS = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x100: "CREATE", 0x200: "DELETE"}


@pytest.fixture
def known():
    return Known()


@pytest.fixture
def folder(sshd):
    """One where the login may do everything."""
    with tempfile.TemporaryDirectory(dir=sshd.home) as path:
        Path(path).chmod(0o777)
        yield Path(path)


@pytest.fixture
def helper(guest):
    one = Helper(guest, (), Unanswered())
    yield one
    one.end()


def test_a_deletion_is_played_until_the_helper_has_made_it(known, helper, folder):
    (folder / "file").touch()
    (folder / "folder").mkdir()
    (folder / "other").touch()
    (folder / "full").mkdir()
    (folder / "full" / "x").touch()
    names = ("file", "folder", "nothing", "full")
    acts = [("D", str(folder / name), (known, name)) for name in names]
    helper.tell([*acts, ("M", str(folder / "other"), (known, "other"))])
    for name in names:
        until(lambda name=name: not known.swallows(name, there=True))
    assert sorted(entry.name for entry in folder.iterdir()) == ["full", "other"]


def test_deletions_are_over_when_the_helper_is(known, helper):
    helper.tell([("D", "/nowhere/a", (known, "a"))])
    until(lambda: not known.buried("a"))  # it runs
    helper._process.signal("KILL")
    until(lambda: not helper._listener.is_alive())
    with contextlib.suppress(OSError):
        helper.tell([("D", "/nowhere/a", (known, "a"))])
    helper.end()
    assert not known.buried("a")


def test_what_the_guest_may_still_make_is_played_when_the_connection_breaks(known, sshd, monkeypatch):
    monkeypatch.setattr(unanswered, "_LAST_ACTS", 0.5)
    connection, left = connect_to(sshd), Unanswered()
    helper = Helper(connection, ["/bin/sh", "-c", "exec sleep 60"], left)  # it stands still

    def tell():
        with contextlib.suppress(OSError):
            helper.tell([("D", "/nowhere/a", (known, "a"))])

    teller = threading.Thread(target=tell)
    teller.start()
    until(lambda: known.buried("a"))
    connection.close()
    teller.join(20)
    helper.end()
    assert known.buried("a")
    left.reached()
    assert known.buried("a")
    until(lambda: not known.buried("a"))


def test_nothing_is_made_that_is_gone_by_now(known, helper, folder):
    (folder / "dangling").symlink_to("target")
    (folder / "file").touch()
    (folder / "dir").mkdir()
    acts = []
    for name in ("file", "dir", "dangling"):
        path = str(folder / name)
        told = act_of("added", path, path, known, served_here=True)
        acts += [(*told, (known, path)), ("A", path, (known, path))]
    assert [act[0] for act in acts] == ["C", "A", "M", "A", "C", "A"]
    (folder / "file").unlink()
    (folder / "dir").rmdir()
    helper.tell([*acts, ("D", str(folder / "end"), (known, "end"))])
    until(lambda: not known.swallows("end", there=True))
    assert [entry.name for entry in folder.iterdir()] == ["dangling"]


def test_new_names_are_made_in_their_very_folder(known, helper, folder):
    """Where a container has laid a link, anybody may make names."""
    (folder / "in").mkdir()
    (folder / "open").mkdir()
    (folder / "in").chmod(0o777)
    (folder / "open").chmod(0o777)
    (folder / "in" / "link").symlink_to(folder / "open")
    names = ("in/-p", "in/a b\n'", "in/link/new")
    acts = [(kind, f"{folder}/{name}{kind}", (known, name)) for name in names for kind in "NF"]
    helper.tell([*acts, ("D", str(folder / "end"), (known, "end"))])
    until(lambda: not known.swallows("end", there=True))
    made = {path.name: path.is_dir() for path in (folder / "in").iterdir() if not path.is_symlink()}
    assert made == {"-pN": False, "-pF": True, "a b\n'N": False, "a b\n'F": True}
    assert list((folder / "open").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_what_containers_see_of_each_act(known, helper, guest, folder):
    """docs/adr/0051-file-events.md; no byte, time or mode changes."""
    folder = folder / "own"  # the helper's, which tells of the folder where chmod has no -h
    guest.run(
        ["sh", "-c", 'mkdir "$1" && cd "$1" && echo text > file && chmod 640 file && mkdir dir', "sh", str(folder)]
    )
    before = (folder / "file").stat()
    libc = ctypes.CDLL(None)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watcher, os.fsencode(folder), sum(EVENTS)) >= 0

    def seen(kind: str, name: str) -> list[str]:
        helper.tell([(kind, str(folder / name), (known, name)), ("D", "/nowhere", (known, "end"))])
        until(lambda: not known.swallows("end", there=True))
        data, found = b"", []
        with contextlib.suppress(BlockingIOError):
            data = os.read(watcher, 65536)
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            data = data[16 + length :]
            found += [word for bit, word in EVENTS.items() if mask & bit]
        return found

    try:
        assert seen("C", "file") == ["CLOSE_WRITE", "MODIFY"]
        assert seen("M", "file") == ["MODIFY"]
        assert seen("M", "dir") == ["MODIFY"]
        assert seen("A", "file") == ["CLOSE_WRITE", "ATTRIB"]
        # What is known there already; and what is not, where the server would say that it was made now.
        assert seen("N", "file") == ["CLOSE_WRITE", "MODIFY"]
        assert seen("F", "dir") == ["MODIFY"]
        assert seen("N", "new") == ["CREATE", "MODIFY"]
        assert seen("F", "new-dir") == ["CREATE"]
        after = (folder / "file").stat()
        assert (after.st_mtime_ns, after.st_mode, after.st_size) == (before.st_mtime_ns, before.st_mode, 5)
        assert seen("D", "file") == ["DELETE"]
        assert seen("D", "dir") == ["DELETE"]
    finally:
        os.close(watcher)
