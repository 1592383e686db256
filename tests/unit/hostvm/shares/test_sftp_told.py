"""Our SFTP server while the guest acts out what was changed here: what it plays along with, and what it keeps."""

from __future__ import annotations

import errno
import os
import struct
import sys

import pytest

from hostvm.shares import sftp_wire as wire
from hostvm.shares.events import act_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


def test_a_deletion_is_acted_out_without_touching_anything(client, folder):
    known = client.server._find_tree("tok").known
    known.bury(str(folder / "gone"))
    assert client.mode("/tok/gone") == 0o100644
    assert client.status(wire.REMOVE, "/tok/gone") == wire.OK
    assert client.status(wire.REMOVE, "/tok/gone") == wire.NO_SUCH_FILE
    (folder / "again").write_text("made again meanwhile")
    known.bury(str(folder / "again"))
    assert client.status(wire.REMOVE, "/tok/again") == wire.FAILURE
    assert (folder / "again").exists()


def test_a_file_whose_close_fails_is_not_called_open(client, folder, monkeypatch):
    known = client.server._find_tree("tok").known
    handle = client.open("/tok/f", wire.F_CREAT | wire.F_WRITE)

    def refuse(descriptor):
        raise OSError(errno.EDQUOT, "over quota")

    assert known.writing(str(folder / "f"))
    with monkeypatch.context() as patch:
        patch.setattr("hostvm.shares.sftp_files.os.close", refuse)
        assert client.status(wire.CLOSE, handle) == wire.FAULT
    assert not known.writing(str(folder / "f"))


def test_a_new_file_is_there_for_everybody_while_it_is_told(client, folder):
    known = client.server._find_tree("tok").known
    (folder / "new").write_text("content")
    known.begin(str(folder / "new"))
    assert client.ask(wire.LSTAT, "/tok/new")[0] == wire.ATTRS
    client.open("/tok/new", wire.F_CREAT | wire.F_WRITE | wire.F_TRUNC)
    assert (folder / "new").read_text() == ""


@pytest.mark.parametrize("again", ["file", "folder"])
@pytest.mark.parametrize("kind", [wire.REMOVE, wire.RMDIR])
def test_what_is_made_again_before_its_deletion_is_acted_out_stays(client, folder, monkeypatch, again, kind):
    """The guest is told of a deletion, then of the new file, and makes the first of both only now."""
    known = client.server._find_tree("tok").known
    path = folder / "f"
    known.bury(str(path))
    path.write_text("new") if again == "file" else path.mkdir()
    known.begin(str(path))
    later = __import__("time").monotonic() + 60
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: later)
    assert client.status(kind, "/tok/f") == wire.FAILURE
    assert client.status(wire.RMDIR, "/tok/f") == wire.FAILURE, "the helper tries both"
    assert path.exists()
    known.settle(str(path))
    assert client.status(wire.REMOVE if again == "file" else wire.RMDIR, "/tok/f") == wire.OK
    assert not path.exists()


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_is_open_in_the_guest_is_not_hidden_when_it_was_made_again(client, folder, replace):
    """libfuse renames a file that is removed while it is open."""
    known = client.server._find_tree("tok").known

    def rename(old: str, new: str) -> int:
        if replace:
            return client.status(wire.EXTENDED, "posix-rename@openssh.com", old, new)
        return client.status(wire.RENAME, old, new)

    known.bury(str(folder / "f"))
    assert rename("/tok/f", "/tok/.fuse_hidden0001") == wire.OK
    known.settle(str(folder / "f"))
    known.bury(str(folder / "f"))
    (folder / "f").write_text("new")
    assert rename("/tok/f", "/tok/.fuse_hidden0002") == wire.PERMISSION_DENIED
    assert [entry.name for entry in folder.iterdir()] == ["f"]


def test_what_a_container_makes_stays_until_a_deletion_is_told_and_may_be_renamed(client, folder):
    known = client.server._find_tree("tok").known
    known.bury(str(folder / "f"))
    assert client.status(wire.REMOVE, "/tok/f") == wire.OK
    client.open("/tok/f", wire.F_CREAT | wire.F_WRITE | wire.F_EXCL)
    assert client.status(wire.REMOVE, "/tok/f") == wire.FAILURE, "this may be the helper, which comes late"
    assert (folder / "f").exists()
    known.settle(str(folder / "f"))
    assert client.status(wire.REMOVE, "/tok/f") == wire.OK
    (folder / "g").touch()
    known.bury(str(folder / "g"))
    assert client.status(wire.EXTENDED, "posix-rename@openssh.com", "/tok/g", "/tok/h") == wire.OK
    assert [entry.name for entry in folder.iterdir()] == ["h"]


def test_a_containers_own_time_is_set_while_a_change_is_told(client, folder):
    """The helper sets the time that is there, or was when it looked; whatever else is set is meant."""
    known = client.server._find_tree("tok").known
    file = folder / "f"
    file.touch()
    os.utime(file, ns=(0, 100_900_000_000))
    known.begin(str(file))
    assert client.status(wire.SETSTAT, "/tok/f", wire.A_TIMES, 5, 50) == wire.OK
    assert file.stat().st_mtime_ns == 50_000_000_000
    os.utime(file, ns=(0, 102_300_000_000))
    client.ask(wire.LSTAT, "/tok/f")
    os.utime(file, ns=(0, 104_700_000_000))
    assert client.status(wire.SETSTAT, "/tok/f", wire.A_TIMES, 102, 102) == wire.OK
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (0, 104_700_000_000)
    assert client.status(wire.SETSTAT, "/tok/f", wire.A_TIMES, 102, 102) == wire.OK
    assert file.stat().st_mtime_ns == 102_000_000_000


def test_what_the_guest_writes_does_not_come_back_as_a_change(client, folder):
    known = client.server._find_tree("tok").known
    (folder / "f").write_text("before")
    path = str(folder / "f")

    def told() -> tuple[str, str] | None:
        return act_of("modified", path, "/w/f", known, served_here=True)

    assert told() == ("M", "/w/f")
    handle = client.open("/tok/f", wire.F_WRITE | wire.F_TRUNC)
    assert told() is None
    for at in range(3):
        assert client.status(wire.WRITE, handle, struct.pack(">Q", at), "x") == wire.OK
        assert told() is None
    assert client.status(wire.CLOSE, handle) == wire.OK
    assert told() is None
    (folder / "f").write_text("this computer's")
    assert told() == ("M", "/w/f")
    client.open("/tok/f", wire.F_WRITE)
    client.ask(wire.OPEN, "/tok/none/f", wire.F_WRITE, 0)
    client.leave()
    (folder / "f").write_text("after its end")
    assert told() == ("M", "/w/f")
    assert not known._writers
