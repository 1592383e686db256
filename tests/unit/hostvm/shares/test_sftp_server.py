"""Our SFTP server, asked packet by packet: what it does, and that nothing leads out of the share."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys

import pytest

from hostvm.shares import sftp_wire as wire
from hostvm.shares.fields import WireError
from hostvm.shares.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


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


@pytest.mark.parametrize("path", ["/tok/out", "/tok/file", "/tok/new"])
def test_no_link_leads_outside_where_the_system_would_follow_it(folder, client_of, monkeypatch, path):
    """Windows has neither openat nor O_NOFOLLOW; a guest that asks for a link itself is no race."""
    monkeypatch.setattr("hostvm.shares.open_folder.POSIX", False)
    monkeypatch.setattr("hostvm.shares.tree.POSIX", False)
    monkeypatch.setattr("hostvm.shares.tree.ALWAYS", 0)
    monkeypatch.setattr(sys, "platform", "win32")
    secret = folder.parent / "secret"
    os.utime(secret, (5, 5))
    mode = secret.stat().st_mode
    (folder / "out").symlink_to(folder.parent)
    (folder / "file").symlink_to(secret)
    (folder / "new").symlink_to(folder.parent / "made")
    client = client_of(Tree(str(folder)))
    for flags in (wire.F_READ, wire.F_WRITE | wire.F_CREAT | wire.F_TRUNC, wire.F_WRITE | wire.F_CREAT | wire.F_EXCL):
        assert client.ask(wire.OPEN, path, flags, wire.A_MODE, 0o644)[0] == wire.STATUS
    assert client.ask(wire.OPENDIR, path)[0] == wire.STATUS
    for attrs in ((wire.A_MODE, 0o777), (wire.A_TIMES, 1, 1), (wire.A_SIZE, struct.pack(">Q", 0))):
        assert client.status(wire.SETSTAT, path, *attrs) != wire.OK
    assert (secret.read_text(), secret.stat().st_mode, secret.stat().st_mtime) == ("secret", mode, 5)
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["secret", "share"]
    # What is no link is had as before.
    (folder / "inner").mkdir()
    handle = client.open("/tok/inner/own", wire.F_CREAT | wire.F_WRITE)
    assert client.status(wire.CLOSE, handle) == wire.OK
    assert client.status(wire.SETSTAT, "/tok/inner/own", wire.A_TIMES, 7, 7) == wire.OK
    assert names_told(client, client.ask(wire.OPENDIR, "/tok/inner")[1]) == ["own"]
    assert names_told(client, client.ask(wire.OPENDIR, "/tok")[1]) == ["file", "inner", "new", "out"]


def test_what_windows_calls_read_only_is_removed_and_replaced(folder, client_of, monkeypatch):
    """As git's objects are, which are made so."""
    monkeypatch.setattr("hostvm.shares.open_folder.POSIX", False)

    def forbid(name, target):
        """As Windows does: `target` is the argument that must not be read-only."""
        act = getattr(os, name)

        def acts(*paths, **options):
            with contextlib.suppress(FileNotFoundError):
                if not os.lstat(paths[target]).st_mode & 0o200:
                    raise PermissionError(errno.EACCES, "read-only")
            if paths[0] in held:
                raise PermissionError(errno.EACCES, "another program has it open")
            act(*paths, **options)

        monkeypatch.setattr(os, name, acts)

    held: set[str] = set()
    for name, target in (("unlink", 0), ("rmdir", 0), ("replace", 1)):
        forbid(name, target)
    client = client_of(Tree(str(folder)))
    for name in ("object", "old", "held"):
        (folder / name).touch()
        (folder / name).chmod(0o444)
    (folder / "new").write_text("new")
    (folder / "sub").mkdir(0o555)
    assert client.status(wire.REMOVE, "/tok/object") == wire.OK
    assert client.status(wire.RMDIR, "/tok/sub") == wire.OK
    assert client.status(wire.EXTENDED, "posix-rename@openssh.com", "/tok/new", "/tok/old") == wire.OK
    assert client.status(wire.EXTENDED, "posix-rename@openssh.com", "/tok/old", "/tok/none") == wire.OK
    held.add(str(folder / "held"))
    assert client.status(wire.REMOVE, "/tok/held") == wire.PERMISSION_DENIED
    assert (folder / "held").stat().st_mode & 0o777 == 0o444
    assert {entry.name: entry.read_text() for entry in folder.iterdir()} == {"held": "", "none": "new"}


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


def test_read_only_refuses_every_change(folder, client_of):
    (folder / "file").write_text("kept")
    client = client_of(Tree(str(folder), readonly=True))
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
    with pytest.raises(WireError):
        client.server.answer(memoryview(bytes([wire.LSTAT]) + struct.pack(">I", 1) + data))


def names_told(client, handle):
    """Of one reading of a folder, up to its end."""
    found = []
    while (answer := client.ask(wire.READDIR, handle))[0] == wire.NAME:
        assert 5 + len(answer[1]) <= 1 << 17, "sshfs hangs up on it"
        at = 4
        for _ in range(struct.unpack_from(">I", answer[1])[0]):
            length = struct.unpack_from(">I", answer[1], at)[0]
            found.append(answer[1][at + 4 : at + 4 + length].decode())
            at += 4 + length + 4 + 32
    assert answer == (wire.STATUS, struct.pack(">I", wire.EOF) + bytes(8))
    return sorted(found)


def test_a_folder_is_read_again_from_its_beginning(client, folder):
    """rewinddir(3): sshfs asks the same handle again."""
    handle = client.ask(wire.OPENDIR, "/tok")[1]
    assert names_told(client, handle) == []
    (folder / "a").touch()
    (folder / "b").mkdir()
    assert names_told(client, handle) == ["a", "b"]
    assert names_told(client, handle) == ["a", "b"]


def test_a_folder_of_long_names_is_told_in_answers_that_sshfs_takes(client, folder):
    names = sorted(f"{number:04}{'x' * 246}" for number in range(600))
    for name in names:
        (folder / name).touch()
    assert names_told(client, client.ask(wire.OPENDIR, "/tok")[1]) == names


@pytest.mark.skipif(sys.platform != "linux", reason="owners are kept on Linux")
def test_half_an_owner_leaves_the_other_half(client, folder):
    (folder / "f").touch()

    def owner():
        return struct.unpack_from(">IQII", client.ask(wire.LSTAT, "/tok/f")[1])[2:]

    same = 0xFFFFFFFF
    for wanted, seen in (((999, same), (999, 0)), ((same, 50), (999, 50)), ((same, same), (999, 50))):
        assert client.status(wire.SETSTAT, "/tok/f", wire.A_OWNER, *wanted) == wire.OK
        assert owner() == seen


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errno.ENOSPC, wire.FAULT),
        (errno.EEXIST, wire.FAILURE),
        (errno.EROFS, wire.PERMISSION_DENIED),
        (errno.ENOENT, wire.NO_SUCH_FILE),
    ],
)
def test_a_fault_has_the_code_of_which_sshfs_makes_the_right_error(client, monkeypatch, fault, code):
    def refuse(*words):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Tree, "mkdir", refuse)
    assert client.status(wire.MKDIR, "/tok/f", 0) == code


@pytest.mark.parametrize(("fault", "code"), [(errno.EXDEV, wire.FAILURE), (errno.ENOTEMPTY, wire.PERMISSION_DENIED)])
def test_only_another_file_system_is_a_failure_of_a_rename(client, monkeypatch, fault, code):
    """sshfs makes EXDEV of a failure, and programs copy then."""

    def refuse(*words):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Tree, "rename", refuse)
    assert client.status(wire.EXTENDED, "posix-rename@openssh.com", "/tok/a", "/tok/b") == code


@pytest.mark.parametrize("mode", [0o751, 0o300, 0o000, 0o1777])
def test_a_new_folder_has_the_mode_asked_for(client, folder, mode):
    assert client.status(wire.MKDIR, "/tok/d", wire.A_MODE, mode) == wire.OK
    assert (folder / "d").stat().st_mode & 0o7777 == mode


def test_a_new_folder_swapped_for_a_link_gives_its_mode_to_nothing(client, folder, monkeypatch):
    """The race itself: right after the folder is made it becomes a link to outside."""
    (folder.parent / "outside").mkdir(0o700)
    real_mkdir = os.mkdir

    def swapping(path, *more, **named):
        real_mkdir(path, *more, **named)
        (folder / "d").rmdir()
        (folder / "d").symlink_to("../outside")

    monkeypatch.setattr(os, "mkdir", swapping)
    assert client.status(wire.MKDIR, "/tok/d", wire.A_MODE, 0o777) != wire.OK
    assert (folder.parent / "outside").stat().st_mode & 0o777 == 0o700


def test_a_share_that_was_closed_reaches_nothing(folder, monkeypatch):
    (folder.parent / "cwd").mkdir()
    (folder.parent / "cwd" / "f").touch()
    (folder / "f").touch()
    monkeypatch.chdir(folder.parent / "cwd")
    tree = Tree(str(folder))
    tree.close()
    tree.close()
    for act in (
        lambda: tree.stat("f"),
        lambda: tree.stat(""),
        lambda: tree.entries(""),
        lambda: tree.unlink("f"),
        lambda: tree.rename("f", "g"),
        lambda: tree.open("new", os.O_CREAT | os.O_WRONLY),
        lambda: tree.statvfs("f"),
    ):
        with pytest.raises(OSError, match="closed"):
            act()
    assert [(folder / "f").exists(), (folder.parent / "cwd" / "f").exists()] == [True, True]


def test_a_share_closed_in_the_midst_of_a_request_reaches_nothing_else(folder, monkeypatch):
    """Between the look at the folder and its use it is closed."""
    (folder.parent / "cwd").mkdir()
    monkeypatch.chdir(folder.parent / "cwd")
    (folder.parent / "cwd" / "f").touch()
    tree = Tree(str(folder))

    class Closing:
        """Closes the tree when it is about to be used."""

        def __enter__(self):
            tree._root._descriptor = None

        def __exit__(self, *what):
            pass

    tree._root._closing = Closing()
    with pytest.raises(OSError, match="closed"):
        tree.unlink("f")
    assert (folder.parent / "cwd" / "f").exists()
