"""What is made, on a real folder."""

from __future__ import annotations

import errno
import os
import stat
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

linux = pytest.mark.skipif(sys.platform != "linux", reason="owners and sockets' names are kept on Linux")
PERM, EXIST, INVAL = 1, 17, 22


def test_a_file_is_made_once_when_it_is_guarded(guest, folder, xdr):
    guest.create("f")
    (folder / "f").write_text("kept")
    how = (u32(wire.GUARDED), xdr.wish(size=0))
    assert guest.status(wire.CREATE, xdr.text(guest.root), xdr.text("f"), *how) == EXIST
    assert (folder / "f").read_text() == "kept"


def test_an_unchecked_file_may_be_there_and_is_cut_when_asked(guest, folder, xdr):
    (folder / "f").write_text("content")
    first = guest.make(wire.CREATE, "f", u32(wire.UNCHECKED), xdr.wish(mode=0o600))
    assert (folder / "f").read_text() == "content"
    assert stat.S_IMODE((folder / "f").stat().st_mode) != 0o600, "it keeps its mode"
    assert guest.make(wire.CREATE, "f", u32(wire.UNCHECKED), xdr.wish(size=0)) == first == guest.lookup("f")
    assert (folder / "f").read_text() == ""
    guest.make(wire.CREATE, "new", u32(wire.UNCHECKED), xdr.wish(mode=0o640))
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o640


def test_what_was_made_is_told_with_it(guest, folder, xdr):
    """Owner and mode as they were set last: the guest asks for nothing more."""
    how = (u32(wire.UNCHECKED), xdr.wish(mode=0o440))
    for _ in ("made", "there already"):
        reader = guest.well(wire.CREATE, xdr.text(guest.root), xdr.text("f"), *how, who=(7, 8))
        assert reader.u32() == 1
        handle = bytes(reader.opaque(64))
        told = xdr.maybe(reader)
        assert told == guest.attributes(handle)
        assert (told.mode, told.size) == (0o440, 0)
        assert (told.user, told.group) == ((7, 8) if sys.platform == "linux" else (0, 0))
        assert xdr.told(reader)[1] == guest.attributes(guest.root)


@pytest.mark.skipif(sys.platform != "linux", reason="by /proc")
def test_a_new_file_is_opened_by_its_name_once(guest, folder, monkeypatch):
    """It may have another one by the time that it is written, and is read by who has it."""
    opened, real = [], os.open

    def noted(path, *words, **named):
        opened.append(path)
        return real(path, *words, **named)

    monkeypatch.setattr(os, "open", noted)
    handle = guest.create("f")
    (folder / "f").rename(folder / "g")
    (folder / "f").write_text("another")
    assert guest.write(handle, b"content") == wire.FILE_SYNC
    assert guest.read(handle)[0] == b"content"
    assert opened.count("f") == 1
    assert (folder / "f").read_text() == "another"


def test_an_exclusive_file_is_made_once_by_whoever_repeats_the_call(guest, folder, xdr):
    made = guest.make(wire.CREATE, "f", u32(wire.EXCLUSIVE), b"verifier")
    assert guest.make(wire.CREATE, "f", u32(wire.EXCLUSIVE), b"verifier") == made
    words = (xdr.text(guest.root), xdr.text("f"), u32(wire.EXCLUSIVE))
    assert guest.status(wire.CREATE, *words, b"another!") == EXIST
    (folder / "old").touch()
    assert guest.status(wire.CREATE, words[0], xdr.text("old"), words[2], bytes(8)) == EXIST


@pytest.mark.parametrize("then", ["the guest goes on", "it is another one here"])
def test_an_exclusive_file_is_made_once_by_a_thread_that_asks_twice_at_once(guest, folder, xdr, then):
    """The guest's kernel makes its verifier of the clock's ticks and the thread."""
    made = guest.make(wire.CREATE, "lock", u32(wire.EXCLUSIVE), b"verifier")
    if then == "the guest goes on":  # as it does with each that it has made
        guest.well(wire.SETATTR, xdr.text(made), xdr.wish(mode=0o600, accessed=True, modified=True), u32(0))
    else:
        (folder / "other").touch()
        (folder / "other").replace(folder / "lock")
    words = (xdr.text(guest.root), xdr.text("lock"), u32(wire.EXCLUSIVE), b"verifier")
    assert guest.status(wire.CREATE, *words) == EXIST


@linux
@pytest.mark.parametrize("mode", [0o644, 0o444, 0o000])
def test_what_a_caller_makes_is_its_own(guest, xdr, mode):
    who = (1000, 998)
    made = guest.create("f", mode, who=who)
    folder = guest.make(wire.MKDIR, "d", xdr.wish(mode=0o755), who=who)
    given = guest.make(wire.MKDIR, "given", xdr.wish(mode=0o755, user=5), who=who)
    assert guest.attributes(made)[3:5] == who
    assert guest.attributes(folder)[3:5] == who
    assert guest.attributes(given)[3:5] == (5, 998)
    guest.write(made, b"x")
    assert guest.attributes(made)[3:5] == who


@pytest.mark.parametrize("mode", [0o751, 0o300, 0o000, 0o1777])
def test_a_new_folder_has_the_mode_asked_for(guest, folder, xdr, mode):
    handle = guest.make(wire.MKDIR, "d", xdr.wish(mode=mode))
    assert stat.S_IMODE((folder / "d").stat().st_mode) == mode
    assert guest.attributes(handle)[:2] == (2, mode)


def test_links_are_text(guest, folder, xdr):
    handle = guest.make(wire.SYMLINK, "link", xdr.wish(), xdr.text("../../etc/passwd"))
    assert os.readlink(folder / "link") == "../../etc/passwd"  # noqa: PTH115
    reader = guest.well(wire.READLINK, xdr.text(handle))
    assert xdr.maybe(reader).kind == 5
    assert reader.text(4096) == "../../etc/passwd"
    assert guest.status(wire.READLINK, xdr.text(guest.create("f"))) == INVAL


@linux
@pytest.mark.parametrize(("kind", "is_one"), [(wire.PIPE, stat.S_ISFIFO), (wire.SOCKET, stat.S_ISSOCK)])
def test_pipes_and_sockets_have_names_and_the_mode_asked_for(guest, folder, xdr, kind, is_one):
    handle = guest.make(wire.MKNOD, "special", u32(kind), xdr.wish(mode=0o666))
    found = (folder / "special").lstat()
    assert is_one(found.st_mode)
    assert guest.attributes(handle).kind == kind
    assert stat.S_IMODE(found.st_mode) == 0o666, "whatever our umask is"


def test_devices_are_not_made(guest, folder, xdr):
    device = (u32(4), xdr.wish(mode=0o600), u32(1), u32(3))
    assert guest.status(wire.MKNOD, xdr.text(guest.root), xdr.text("null"), *device) == PERM
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("fault", [errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_what_a_file_system_cannot_do_is_told_as_linux_tells_it(guest, monkeypatch, fault):
    """NFS' own word for it is no error of Linux': programs said "Unknown error 524"."""

    def refuse(*_, **__):
        raise OSError(fault, "no links here")

    first = guest.create("a")
    monkeypatch.setattr(os, "link", refuse)
    assert guest.link(first, "b") == PERM


def test_a_second_name_is_the_same_file(guest, folder):
    first = guest.create("a")
    assert guest.link(first, "b") == wire.OK
    assert guest.lookup("b") == first
    assert guest.attributes(first).links == 2
    assert guest.link(first, "b") == EXIST
    guest.write(first, b"x")
    assert (folder / "b").read_text() == "x"


def test_a_name_of_any_bytes_is_kept(guest, folder):
    name = b"caf\xe9 \xff\n"
    guest.create(name)
    assert os.listdir(os.fsencode(folder)) == [name]  # noqa: PTH208 - bytes
    found = [one for one in guest.piece(guest.root, plus=True)[0] if one[0] not in (".", "..")]
    assert [os.fsencode(one[0]) for one in found] == [name]
    assert guest.lookup(found[0][0]) == found[0][4]
