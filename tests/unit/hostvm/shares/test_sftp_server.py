"""Our SFTP server, asked packet by packet: what it does, and that nothing leads out of the share."""

from __future__ import annotations

import os
import struct
import sys

import pytest

from hostvm.shares import sftp_wire as wire
from hostvm.shares.known import CHANGED, DELETED
from hostvm.shares.sftp_server import SftpServer
from hostvm.shares.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


class Client:
    """Speaks to a server without a stream between."""

    def __init__(self, tree: Tree) -> None:
        self.server = SftpServer(None, {"tok": tree}.__getitem__)

    def ask(self, kind: int, *fields: bytes | str | int) -> tuple[int, bytes]:
        body = b"".join(
            field
            if isinstance(field, bytes)
            else struct.pack(">I", field)
            if isinstance(field, int)
            else wire.string(os.fsencode(field))
            for field in fields
        )
        answer = self.server.answer(memoryview(bytes([kind]) + struct.pack(">I", 7) + body))
        length, answered, number = struct.unpack_from(">IBI", answer)
        assert (length, number) == (len(answer) - 4, 7)
        return answered, answer[9:]

    def status(self, kind: int, *fields: bytes | str | int) -> int:
        answered, body = self.ask(kind, *fields)
        assert answered == wire.STATUS, (answered, body)
        return struct.unpack_from(">I", body)[0]

    def open(self, path: str, flags: int, mode: int = 0o644) -> bytes:
        answered, body = self.ask(wire.OPEN, path, flags, wire.A_MODE, mode)
        assert answered == wire.HANDLE, body
        return body

    def mode(self, path: str) -> int:
        answered, body = self.ask(wire.LSTAT, path)
        assert answered == wire.ATTRS, body
        return struct.unpack_from(">IQIII", body)[4]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "share"


@pytest.fixture
def client(folder):
    tree = Tree(str(folder))
    yield Client(tree)
    tree.close()


def test_write_read_close(client, folder):
    handle = client.open("/tok/file", wire.F_CREAT | wire.F_WRITE | wire.F_READ, 0o751)
    assert client.status(wire.WRITE, handle, struct.pack(">Q", 0), "hello") == wire.OK
    assert client.ask(wire.READ, handle, struct.pack(">Q", 1), 3) == (wire.DATA, wire.string(b"ell"))
    assert client.status(wire.READ, handle, struct.pack(">Q", 5), 3) == wire.EOF
    assert client.status(wire.CLOSE, handle) == wire.OK
    assert (folder / "file").read_text() == "hello"
    assert (folder / "file").stat().st_mode & 0o7777 == 0o751, "the mode is what was asked for, whatever our umask is"


def test_without_the_secret_there_is_nothing(client):
    for path in ("/file", "/", "/tokk/file", ""):
        assert client.status(wire.LSTAT, path) == wire.PERMISSION_DENIED


@pytest.mark.parametrize("path", ["/tok/../secret", "/tok/a/../../secret", "/tok/out/x", "/tok/up/secret", "/tok/out"])
def test_nothing_is_opened_outside(client, folder, path):
    (folder / "out").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to("..")
    (folder / "a").mkdir()
    for flags in (wire.F_READ, wire.F_WRITE | wire.F_CREAT):
        answered, _ = client.ask(wire.OPEN, path, flags, wire.A_MODE, 0o644)
        assert answered == wire.STATUS
    for kind in (wire.REMOVE, wire.RMDIR, wire.OPENDIR):
        if path != "/tok/out" or kind != wire.REMOVE:
            assert client.status(kind, path) != wire.OK
    assert client.status(wire.SETSTAT, path, wire.A_MODE, 0o777) != wire.OK
    assert client.status(wire.SETSTAT, path, wire.A_SIZE, struct.pack(">Q", 0)) != wire.OK
    assert (folder.parent / "secret").read_text() == "secret"
    assert (folder.parent / "secret").stat().st_mode & 0o777 != 0o777


def test_a_folder_swapped_for_a_link_is_not_entered(client, folder, monkeypatch):
    """The race itself: between two steps of a walk the folder becomes a link to outside."""
    (folder / "a").mkdir()
    (folder / "a" / "secret").write_text("inside")
    real_open = os.open

    def swapping(path, flags, *more, **named):
        if path == "a" and (folder / "a").is_dir() and not (folder / "a").is_symlink():
            (folder / "a").rename(folder / "b")
            (folder / "a").symlink_to("..")
        return real_open(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", swapping)
    assert client.ask(wire.OPEN, "/tok/a/secret", wire.F_READ, 0)[0] == wire.STATUS


def test_pipes_do_not_hold_it_up(client, folder):
    os.mkfifo(folder / "pipe")
    assert client.ask(wire.OPEN, "/tok/pipe", wire.F_READ, 0)[0] == wire.STATUS


def test_links_are_text(client, folder):
    assert client.status(wire.SYMLINK, "../../etc/passwd", "/tok/link") == wire.OK
    assert os.readlink(folder / "link") == "../../etc/passwd"  # noqa: PTH115
    assert b"../../etc/passwd" in client.ask(wire.READLINK, "/tok/link")[1]


def test_owners_are_kept_and_the_file_stays_the_users(client, folder):
    (folder / "file").touch()
    assert client.status(wire.SETSTAT, "/tok/file", wire.A_OWNER, 999, 998) == wire.OK
    if sys.platform == "linux":
        assert struct.unpack_from(">IQII", client.ask(wire.LSTAT, "/tok/file")[1])[2:] == (999, 998)
    assert (folder / "file").stat().st_uid == os.geteuid()


def test_a_file_without_any_permission_can_be_opened_up_again(client, folder):
    (folder / "file").touch(0o000)
    assert client.status(wire.SETSTAT, "/tok/file", wire.A_MODE, 0o640) == wire.OK
    assert client.mode("/tok/file") & 0o777 == 0o640


def test_a_time_keeps_its_fraction(client, folder):
    (folder / "file").touch()
    os.utime(folder / "file", ns=(0, 1_234_567_890_123_456_789))
    assert client.status(wire.SETSTAT, "/tok/file", wire.A_TIMES, 5, 1_234_567_890) == wire.OK
    assert (folder / "file").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert client.status(wire.SETSTAT, "/tok/file", wire.A_TIMES, 5, 6) == wire.OK
    assert (folder / "file").stat().st_mtime_ns == 6_000_000_000


def test_rename_replaces_only_when_asked(client, folder):
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    assert client.status(wire.RENAME, "/tok/a", "/tok/b") == wire.FAILURE
    assert client.status(wire.EXTENDED, "posix-rename@openssh.com", "/tok/a", "/tok/b") == wire.OK
    assert (folder / "b").read_text() == "a"


def test_read_only_refuses_every_change(folder):
    (folder / "file").write_text("kept")
    client = Client(Tree(str(folder), readonly=True))
    for kind, fields in (
        (wire.REMOVE, ("/tok/file",)),
        (wire.MKDIR, ("/tok/d", 0)),
        (wire.SYMLINK, ("x", "/tok/l")),
        (wire.RENAME, ("/tok/file", "/tok/other")),
        (wire.SETSTAT, ("/tok/file", wire.A_MODE, 0o600)),
        (wire.SETSTAT, ("/tok/file", wire.A_TIMES, 1, 1)),
        (wire.OPEN, ("/tok/file", wire.F_WRITE, 0)),
        (wire.OPEN, ("/tok/new", wire.F_CREAT | wire.F_READ, 0)),
    ):
        assert client.status(kind, *fields) == wire.PERMISSION_DENIED
    assert [entry.name for entry in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\0\0\0\1", b"\xff\xff\xff\xff"])
def test_what_is_no_string_ends_the_connection(client, data):
    with pytest.raises(wire.WireError):
        client.server.answer(memoryview(bytes([wire.LSTAT]) + struct.pack(">I", 1) + data))


def test_a_deletion_is_acted_out_without_touching_anything(client, folder):
    known = client.server._find_tree("tok").known
    known.begin(str(folder / "gone"), DELETED)
    assert client.mode("/tok/gone") == 0o100644
    assert client.status(wire.REMOVE, "/tok/gone") == wire.OK
    assert client.status(wire.REMOVE, "/tok/gone") == wire.NO_SUCH_FILE
    (folder / "again").write_text("made again meanwhile")
    known.begin(str(folder / "again"), DELETED)
    assert client.status(wire.REMOVE, "/tok/again") == wire.FAILURE
    assert (folder / "again").exists()


def test_a_new_file_is_there_for_everybody_while_it_is_told(client, folder):
    known = client.server._find_tree("tok").known
    (folder / "new").write_text("content")
    known.begin(str(folder / "new"), CHANGED)
    assert client.ask(wire.LSTAT, "/tok/new")[0] == wire.ATTRS
    client.open("/tok/new", wire.F_CREAT | wire.F_WRITE | wire.F_TRUNC)
    assert (folder / "new").read_text() == ""
