"""Our NFS server while the guest acts out what was changed here: what it plays along with, and what it keeps."""

from __future__ import annotations

import os
import sys

import pytest

from hostvm.shares.events import HELPER_GROUP, act_of
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

PERM, NOENT, ACCES, EXIST = 1, 2, 13, 17


@pytest.fixture
def guest(guest):
    """As the helper asks that acts out what happened here."""
    guest.groups = (HELPER_GROUP,)
    return guest


@pytest.fixture
def take(guest, xdr):
    """The status of a removal, by the helper unless other groups are named."""
    return lambda name, kind=wire.REMOVE, groups=(HELPER_GROUP,): guest.status(
        kind, xdr.text(guest.root), xdr.text(name), groups=groups
    )


def test_a_deletion_is_acted_out_without_touching_anything(guest, known, folder, xdr, take):
    known.bury(str(folder / "gone"))
    found = guest.attributes(guest.lookup("gone"))
    assert (found.kind, found.mode, found.size, found.modified) == (1, 0o644, 0, 0)
    assert take("gone") == wire.OK
    assert take("gone") == NOENT
    assert guest.status(wire.LOOKUP, xdr.text(guest.root), xdr.text("gone")) == NOENT
    (folder / "again").write_text("made again meanwhile")
    known.bury(str(folder / "again"))
    assert take("again") == PERM
    assert (folder / "again").exists()


@pytest.mark.parametrize("kind", [wire.REMOVE, wire.RMDIR])
def test_what_was_not_deleted_here_is_not_taken_away_by_who_acts_deletions_out(guest, folder, take, kind):
    """It comes late, as after a pause of the guest, and the name is another file's by now."""
    (folder / "f").touch() if kind == wire.REMOVE else (folder / "f").mkdir()
    assert take("f", kind) == PERM
    assert guest.rename("f", "g") == PERM
    assert guest.rename("f", ".nfs1") == PERM
    assert (folder / "f").exists()
    assert take("f", kind, groups=()) == wire.OK


@pytest.fixture
def state_of(folder):
    """All that is there, with what making or touching it again would change."""

    def look():
        found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
        return {path: (one.st_ino, one.st_mode, one.st_mtime_ns, one.st_ctime_ns) for path, one in found.items()}

    return look


def test_a_creation_is_acted_out_without_touching_anything(guest, folder, xdr, state_of):
    (folder / "new" / "inner").mkdir(parents=True)
    (folder / "new" / "inner" / "file").write_text("content")
    (folder / "link").symlink_to("new")
    before = state_of()
    pipe = u32(wire.PIPE)
    for _ in range(2):  # an answer that was lost
        made = guest.make(wire.MKDIR, "new", xdr.wish(mode=0o700))
        assert made == guest.lookup("new"), "it is what everybody finds there"
        inner = guest.make(wire.MKDIR, "inner", xdr.wish(), folder=made)
        assert inner == guest.lookup("new/inner")
        file = guest.make(wire.MKNOD, "file", pipe, xdr.wish(mode=0o600), folder=inner)
        assert (file, guest.read(file)[0]) == (guest.lookup("new/inner/file"), b"content")
        assert guest.make(wire.MKNOD, "link", pipe, xdr.wish()) == guest.lookup("link")
    reader = guest.well(wire.MKDIR, xdr.text(guest.root), xdr.text("new"), xdr.wish())
    assert (reader.u32(), bytes(reader.opaque(64)), xdr.maybe(reader)) == (1, made, guest.attributes(made))
    assert xdr.told(reader)[1] == guest.attributes(guest.root)
    assert state_of() == before


@pytest.mark.parametrize("kind", ["MKDIR", "MKNOD"])
def test_what_is_gone_before_its_creation_is_acted_out_is_not_made(guest, known, folder, xdr, kind):
    words = (xdr.wish(),) if kind == "MKDIR" else (u32(wire.PIPE), xdr.wish())

    def make(name):
        return guest.status(getattr(wire, kind), xdr.text(guest.root), xdr.text(name), *words)

    assert make("gone") == NOENT
    known.bury(str(folder / "buried"))
    assert make("buried") == NOENT
    (folder / "other").mkdir() if kind == "MKNOD" else (folder / "other").touch()
    assert make("other") == EXIST, "its kind would be told wrongly"
    assert [entry.name for entry in folder.iterdir()] == ["other"]


@pytest.mark.parametrize("groups", [(), (0, 1000)])
def test_nobody_else_makes_what_is_there(guest, folder, xdr, groups):
    (folder / "folder").mkdir()
    (folder / "file").touch()
    for kind, *words in ((wire.MKDIR, xdr.wish()), (wire.MKNOD, u32(wire.PIPE), xdr.wish())):
        for name in ("folder", "file"):
            assert guest.status(kind, xdr.text(guest.root), xdr.text(name), *words, groups=groups) == EXIST


def test_a_creation_that_was_acted_out_is_no_news(guest, known, folder, xdr):
    (folder / "new").mkdir()
    (folder / "file").touch()

    def told(name, change="added"):
        return act_of(change, str(folder / name), f"/w/{name}", known, served_here=True, creates=True)

    assert [told("new"), told("file")] == [("F", "/w/new"), ("N", "/w/file")]
    guest.make(wire.MKDIR, "new", xdr.wish())
    guest.make(wire.MKNOD, "file", u32(wire.PIPE), xdr.wish())
    assert [told(name, change) for name in ("new", "file") for change in ("added", "modified")] == [None] * 4


def test_nobody_else_sees_what_is_gone(guest, known, folder, xdr):
    known.bury(str(folder / "gone"))
    words = (xdr.text(guest.root), xdr.text("gone"))
    assert [guest.status(wire.LOOKUP, *words, groups=groups) for groups in ((), (0, 1000))] == [NOENT, NOENT]
    ghost = guest.lookup("gone")
    assert guest.status(wire.GETATTR, xdr.text(ghost), groups=()) == wire.STALE
    assert guest.attributes(ghost).size == 0


def test_what_is_gone_is_not_seen_as_the_file_that_it_was(guest, known, folder, xdr):
    """A program that has that one open would be told that it is empty, and append at its beginning."""
    handle = guest.create("f")
    guest.write(handle, b"content")
    (folder / "f").rename(folder / "moved")
    known.bury(str(folder / "f"))
    ghost = guest.lookup("f")
    assert ghost != handle
    assert guest.attributes(ghost).size == 0
    assert guest.attributes(handle).size == len("content"), "it is open still"
    guest.exports[next(iter(guest.exports))].files.close()
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE


def test_folders_above_a_deletion_are_seen_as_folders(guest, known, folder, take, xdr):
    """`rm -r a`: the helper reaches a/b/c through folders that are not there any more."""
    known.bury(str(folder / "a" / "b" / "c"))
    inner = guest.lookup("a/b")
    assert [guest.attributes(guest.lookup(name)).kind for name in ("a", "a/b", "a/b/c")] == [2, 2, 1]
    assert guest.status(wire.REMOVE, xdr.text(inner), xdr.text("c")) == wire.OK
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("again", ["file", "folder"])
@pytest.mark.parametrize("kind", [wire.REMOVE, wire.RMDIR])
def test_what_is_made_again_before_its_deletion_is_acted_out_stays(
    guest, known, folder, monkeypatch, take, again, kind
):
    path = folder / "f"
    known.bury(str(path))
    path.write_text("new") if again == "file" else path.mkdir()
    known.begin(str(path))
    later = __import__("time").monotonic() + 60
    with monkeypatch.context() as patch:
        patch.setattr("hostvm.shares.known.time.monotonic", lambda: later)
        assert take("f", kind) == PERM
        assert take("f", wire.RMDIR) == PERM, "the helper tries both"
    assert path.exists()
    known.settle(str(path))
    assert take("f", wire.REMOVE if again == "file" else wire.RMDIR, groups=()) == wire.OK
    assert not path.exists()


def test_a_file_that_is_open_in_the_guest_is_not_hidden_when_it_was_made_again(guest, known, folder, xdr):
    """Its kernel renames a file that is removed while it is open."""

    def hide(name, groups=(HELPER_GROUP,)):
        return guest.status(wire.RENAME, *map(xdr.text, (guest.root, "f", guest.root, name)), groups=groups)

    known.bury(str(folder / "f"))
    assert hide(".nfs0001") == wire.OK
    known.settle(str(folder / "f"))
    known.bury(str(folder / "f"))
    (folder / "f").write_text("new")
    assert hide(".nfs0002") == ACCES
    assert [entry.name for entry in folder.iterdir()] == ["f"]
    assert hide("other", groups=()) == wire.OK, "any other rename is meant"


def test_a_containers_own_time_is_set_while_a_change_is_told(guest, known, folder, xdr):
    """The helper sets the time that is there, or was when it looked; whatever else is set is meant."""
    file = folder / "f"
    file.touch()

    def set_(seconds, **more):
        words = xdr.wish(accessed=seconds * 10**9, modified=seconds * 10**9, **more)
        assert guest.status(wire.SETATTR, xdr.text(guest.lookup("f")), words, u32(0)) == wire.OK
        return file.stat().st_mtime_ns

    os.utime(file, ns=(0, 100_900_000_000))
    known.begin(str(file))
    assert set_(50) == 50_000_000_000
    os.utime(file, ns=(0, 102_300_000_000))
    guest.lookup("f")
    os.utime(file, ns=(0, 104_700_000_000))
    assert set_(102) == 104_700_000_000
    assert file.stat().st_atime_ns == 0
    assert set_(102) == 102_000_000_000
    known.begin(str(file))
    assert set_(102, mode=0o600) == 102_000_000_000
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("by", ["LOOKUP", "GETATTR", "READDIRPLUS", "READ"])
def test_a_time_that_the_guest_was_shown_is_no_time_of_its_own(guest, known, folder, xdr, by):
    """Its kernel keeps attributes for a moment: acting out a change may set the time of before."""
    file = folder / "f"
    file.touch()
    handle = guest.lookup("f")
    os.utime(file, (100, 100))
    if by == "READDIRPLUS":
        guest.piece(guest.root, plus=True)
    else:
        {"LOOKUP": lambda: guest.lookup("f"), "GETATTR": lambda: guest.attributes(handle)}.get(
            by, lambda: guest.read(handle)
        )()
    os.utime(file, (900, 900))
    known.begin(str(file))
    words = xdr.wish(accessed=True, modified=100 * 10**9)
    assert guest.status(wire.SETATTR, xdr.text(handle), words, u32(0)) == wire.OK
    assert file.stat().st_mtime == 900


def test_what_the_guest_does_does_not_come_back_as_a_change(guest, known, folder, xdr, take):
    def told(name="f", change="modified"):
        return act_of(change, str(folder / name), f"/w/{name}", known, served_here=True)

    (folder / "f").write_text("before")
    assert told() == ("M", "/w/f")
    handle = guest.lookup("f")
    for at in range(3):
        guest.write(handle, b"x", at)
        assert told() is None
    assert guest.commit(handle) == wire.OK
    assert guest.status(wire.SETATTR, xdr.text(handle), xdr.wish(size=1, modified=5), u32(0)) == wire.OK
    assert told() is None
    (folder / "f").write_text("this computer's")
    assert told() == ("M", "/w/f")
    guest.write(guest.create("new"), b"x")
    guest.make(wire.MKDIR, "d", xdr.wish(), groups=())
    guest.make(wire.SYMLINK, "l", xdr.wish(), xdr.text("f"))
    assert guest.status(wire.LINK, xdr.text(handle), xdr.text(guest.root), xdr.text("second")) == wire.OK
    for name in ("new", "d", "l", "second"):
        assert told(name, "added") is None
    words = map(xdr.text, (guest.root, "new", guest.root, "newer"))
    assert guest.status(wire.RENAME, *words, groups=()) == wire.OK
    assert take("l", groups=()) == take("d", wire.RMDIR, groups=()) == wire.OK
    for name, change in (("new", "deleted"), ("newer", "added"), ("l", "deleted"), ("d", "deleted")):
        assert told(name, change) is None
    (folder / "newer").unlink()
    assert told("newer", "deleted") == ("D", "/w/newer")


def test_a_change_here_that_a_write_comes_upon_is_still_told(guest, known, folder):
    (folder / "f").write_text("one")
    assert known.hear(str(folder / "f"))
    (folder / "f").write_text("longer")
    guest.write(guest.lookup("f"), b"x")
    assert known.hear(str(folder / "f")) == (True, True)
