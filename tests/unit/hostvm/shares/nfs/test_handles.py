"""What a handle stands for: always the same file, never another one, and nothing outside of the share."""

from __future__ import annotations

import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

NOTDIR, INVAL, TOOLONG = 20, 22, 63


def replace(path, content):
    """As an editor saves."""
    new = path.with_name("new")
    new.write_text(content)
    new.replace(path)


def test_a_file_that_was_replaced_here_is_read_as_the_new_one_and_never_written(guest, folder, xdr):
    """A container that has a single file knows it by its number alone; editors save by rename."""
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    replace(folder / "f", "newer")
    assert guest.attributes(handle).size == 5
    assert guest.read(handle) == (b"newer", True)
    assert guest.status(wire.FSSTAT, xdr.text(handle)) == wire.OK, "df of that file"
    words = (xdr.text(handle), u64(0), u32(1), u32(0), xdr.text(b"x"))
    assert guest.status(wire.WRITE, *words) == wire.STALE
    assert guest.status(wire.SETATTR, xdr.text(handle), xdr.wish(mode=0), u32(0)) == wire.STALE
    assert guest.status(wire.LINK, xdr.text(handle), xdr.text(guest.root), xdr.text("l")) == wire.STALE
    assert guest.read(guest.lookup("f")) == (b"newer", True)
    assert guest.lookup("f") != handle
    (folder / "f").unlink()
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE
    (folder / "f").mkdir()
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("by_whom", ["the next agent", "one that has seen many files since"])
def test_a_file_that_was_replaced_here_is_read_as_the_new_one_for_as_long_as_a_container_has_it(
    shares, folder, by_whom, written, nothing_is_searched
):
    store = shares.store()
    guest = shares.guest(folder, store)
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    for content in ("saved", "saved again"):
        if written:
            store.write()
        replace(folder / "f", content)
        assert guest.lookup("f") != handle
    if by_whom == "the next agent":
        store.write()
        guest = shares.guest(folder, shares.store())
    else:
        next(iter(guest.exports.values())).places._known.clear()
    assert guest.attributes(handle).size == 11
    assert guest.read(handle) == (b"saved again", True)


def test_a_file_that_is_open_stays_itself_when_another_one_has_its_name(guest, folder):
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    assert guest.read(handle) == (b"old", True)
    guest.write(handle, b"O")
    replace(folder / "f", "new")
    assert guest.read(handle) == (b"Old", True)
    guest.write(handle, b"x")
    assert guest.attributes(handle).size == 3
    assert (folder / "f").read_text() == "new"


def test_a_file_that_a_container_has_by_itself_is_the_new_one_at_once(guest, folder, known):
    """Or whoever reads it each minute would never see that it was saved."""
    for name in ("f", "other"):
        (folder / name).write_text("old")
    handles = {name: guest.lookup(name) for name in ("f", "other")}
    known.alone = frozenset({str(folder / "f")})
    for name, handle in handles.items():
        assert guest.read(handle) == (b"old", True)
        replace(folder / name, "newer")
    assert guest.attributes(handles["f"]).size == 5
    assert guest.read(handles["f"]) == (b"newer", True)
    assert guest.read(handles["other"]) == (b"old", True), "who has it open in its folder"
    replace(folder / "f", "newest")
    assert guest.attributes(handles["f"]).size == 6
    assert guest.read(handles["f"]) == (b"newest", True)
    (folder / "f").unlink()
    assert guest.read(handles["f"]) == (b"old", True), "nothing took its place"


def test_a_file_that_a_container_has_by_itself_is_not_mixed_with_another_while_it_is_written(guest, folder, known):
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    known.alone = frozenset({str(folder / "f")})
    guest.write(handle, b"O")
    replace(folder / "f", "newer")
    assert guest.attributes(handle).size == 3
    assert guest.read(handle) == (b"Old", True)
    guest.commit(handle)
    assert guest.read(handle) == (b"newer", True)


@pytest.mark.parametrize("what", [{"mode": 0o600}, {"user": 7}, {"modified": 5}, {"size": 0}])
def test_what_is_set_of_an_open_file_is_not_set_of_another_that_has_its_name(guest, folder, xdr, what):
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    guest.write(handle, b"O")
    guest.read(handle)
    replace(folder / "f", "new")
    before, owner = (folder / "f").stat(), guest.attributes(guest.lookup("f"))[3:5]
    guest.ask(wire.SETATTR, xdr.text(handle), xdr.wish(**what), u32(0))
    after = (folder / "f").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_size)
    assert guest.attributes(guest.lookup("f"))[3:5] == owner


def test_a_number_that_became_another_files_is_stale(guest, folder, xdr):
    """Most file systems give a removed file's number to the next one: a container's old log is not written into it."""
    (folder / "log").write_text("log")
    handle, number = guest.lookup("log"), (folder / "log").stat().st_ino
    (folder / "log").unlink()
    (folder / "precious").write_text("kept")
    if (folder / "precious").stat().st_ino != number:
        pytest.skip("this file system does not do that")
    guest.lookup("precious")
    assert guest.status(wire.WRITE, xdr.text(handle), u64(0), u32(1), u32(0), xdr.text(b"x")) == wire.STALE
    assert (folder / "precious").read_text() == "kept"


def test_another_file_that_has_an_open_ones_name_is_not_linked(guest, folder, xdr):
    (folder / "f").write_text("old")
    handle = guest.lookup("f")
    guest.read(handle)
    replace(folder / "f", "new")
    guest.ask(wire.LINK, xdr.text(handle), xdr.text(guest.root), xdr.text("link"))
    assert not (folder / "link").exists() or (folder / "link").read_text() == "old"


@pytest.mark.parametrize(
    ("token", "number"),
    [
        (b"", b""),
        (b"\0" * 16, bytes(7) + b"\1"),
        (None, bytes(8)),
        (None, b"\x12\x34\x56\x78" * 2),
        (None, b"\xff" * 8),
        (None, b"\x80" + bytes(7)),
        (None, b"\x80" * 48),
        (None, b""),
    ],
    ids=["nothing", "another share", "none", "some", "greatest", "beyond", "long", "short"],
)
def test_a_handle_that_nobody_was_given_is_stale(guest, xdr, token, number):
    handle = xdr.text((next(iter(guest.exports)) if token is None else token) + number)
    assert guest.status(wire.GETATTR, handle) == wire.STALE
    assert guest.status(wire.READ, handle, u64(0), u32(1)) == wire.STALE
    assert guest.status(wire.REMOVE, handle, xdr.text("f")) == wire.STALE


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/", "../secret", "a\0b", "n" * 256, "é" * 128])
def test_what_is_no_name_is_refused(guest, folder, xdr, name):
    (folder / "a").mkdir()
    (folder / "a" / "b").touch()
    refused = (INVAL, TOOLONG)
    root, word = xdr.text(guest.root), xdr.text(name)
    if name not in (".", ".."):
        assert guest.status(wire.LOOKUP, root, word) in refused
    for procedure, words in (
        (wire.CREATE, (root, word, u32(0), xdr.wish())),
        (wire.MKDIR, (root, word, xdr.wish())),
        (wire.SYMLINK, (root, word, xdr.wish(), xdr.text("x"))),
        (wire.MKNOD, (root, word, u32(wire.PIPE), xdr.wish())),
        (wire.REMOVE, (root, word)),
        (wire.RMDIR, (root, word)),
        (wire.RENAME, (root, word, root, xdr.text("x"))),
        (wire.RENAME, (root, xdr.text("a"), root, word)),
        (wire.LINK, (xdr.text(guest.lookup("a/b")), root, word)),
    ):
        assert guest.status(procedure, *words) in refused, procedure
    assert guest.status(wire.SYMLINK, root, xdr.text("s"), xdr.wish(), xdr.text("a\0b")) in refused
    assert [str(one.relative_to(folder)) for one in sorted(folder.rglob("*"))] == ["a", "a/b"]


@pytest.mark.parametrize("elsewhere", ["../outside", "moved"])
def test_a_folder_swapped_for_a_link_is_not_entered(guest, folder, xdr, elsewhere):
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / "a").mkdir()
    for place in (outside, folder / "a"):
        (place / "f").write_text(f"in {place.name}")
        (place / "g").write_text("kept")
    inner, handle = guest.lookup("a"), guest.lookup("a/f")
    (folder / "a").rename(folder / "moved")
    (folder / "a").symlink_to(elsewhere)
    no = (wire.STALE, NOTDIR)
    inside = xdr.text(inner)
    for procedure, words in (
        (wire.GETATTR, (xdr.text(handle),)),
        (wire.READ, (xdr.text(handle), u64(0), u32(99))),
        (wire.WRITE, (xdr.text(handle), u64(0), u32(1), u32(0), xdr.text(b"x"))),
        (wire.SETATTR, (xdr.text(handle), xdr.wish(mode=0), u32(0))),
        (wire.LINK, (xdr.text(handle), xdr.text(guest.root), xdr.text("l"))),
        (wire.LOOKUP, (inside, xdr.text("g"))),
        (wire.CREATE, (inside, xdr.text("new"), u32(0), xdr.wish())),
        (wire.MKDIR, (inside, xdr.text("new"), xdr.wish())),
        (wire.REMOVE, (inside, xdr.text("g"))),
        (wire.RENAME, (inside, xdr.text("g"), xdr.text(guest.root), xdr.text("g"))),
        (wire.READDIR, (inside, u64(0), bytes(8), u32(4096))),
        (wire.FSSTAT, (xdr.text(handle),)),
    ):
        assert guest.status(procedure, *words) in no, procedure
    assert guest.attributes(guest.lookup("a")).kind == 5, "the link itself may be seen"
    assert sorted(one.name for one in outside.iterdir()) == ["f", "g"]
    assert (outside / "f").read_text() == "in outside"


def test_a_file_swapped_for_a_link_is_not_followed(guest, folder, xdr):
    (folder / "f").write_text("inside")
    handle = guest.lookup("f")
    (folder / "f").unlink()
    (folder / "f").symlink_to("../secret")
    assert guest.status(wire.READ, xdr.text(handle), u64(0), u32(9)) != wire.OK
    linked = xdr.text(guest.lookup("f"))
    assert guest.status(wire.READ, linked, u64(0), u32(9)) != wire.OK
    assert guest.status(wire.WRITE, linked, u64(0), u32(1), u32(2), xdr.text(b"x")) != wire.OK
    assert guest.status(wire.SETATTR, linked, xdr.wish(size=0), u32(0)) != wire.OK
    assert guest.status(wire.SETATTR, linked, xdr.wish(mode=0o777), u32(0)) != wire.OK
    words = (xdr.text(guest.root), xdr.text("f"), u32(wire.UNCHECKED), xdr.wish(size=0))
    assert guest.status(wire.CREATE, *words) != wire.OK
    assert (folder.parent / "secret").read_text() == "secret"
    assert (folder.parent / "secret").stat().st_mode & 0o777 != 0o777


def test_another_folder_of_that_name_is_not_taken_for_the_first(guest, folder, xdr):
    (folder / "a").mkdir()
    (folder / "a" / "f").touch()
    handle = guest.lookup("a")
    (folder / "a").rename(folder / "b")
    (folder / "a").mkdir()
    (folder / "a" / "f").touch()
    inside = xdr.text(handle)
    assert guest.status(wire.CREATE, inside, xdr.text("new"), u32(0), xdr.wish()) == wire.STALE
    assert guest.status(wire.REMOVE, inside, xdr.text("f")) == wire.STALE
    assert guest.status(wire.LOOKUP, inside, xdr.text("f")) == wire.STALE
