"""Where the files are that the guest knows by their numbers: kept, found again, and not mistaken."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.exports import NUMBER_BYTES
from hostvm.shares.nfs.places import ROOT, Places, PlaceStore, number_of
from hostvm.shares.nfs.xdr import opaque

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


def test_a_folder_that_got_its_name_back_from_another_is_found(guest, folder, nothing_is_searched):
    (folder / "a").mkdir()
    handle = guest.lookup("a")
    (folder / "a").rename(folder / "b")
    (folder / "a").mkdir()
    guest.piece(guest.root, plus=True)
    (folder / "a").rmdir()
    (folder / "b").rename(folder / "a")
    guest.create("made", folder=handle)
    assert (folder / "a" / "made").exists()


def test_handles_are_good_for_the_agents_that_come_after(shares, folder, nothing_is_searched):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "f").write_text("content")
    first = shares.guest(folder)
    handle = first.lookup("a/b/f")
    listed = {one[0]: one[4] for one in first.piece(first.lookup("a"), plus=True)[0]}
    made = first.create("new")
    shares.end(shares.stores[0])
    second = shares.guest(folder)
    assert second.read(handle) == (b"content", True)
    assert second.attributes(made).size == 0
    assert second.attributes(listed["b"]).kind == 2
    assert second.attributes(second.root).kind == 2


def test_handles_are_found_again_when_the_file_is_lost(shares, folder, tmp_path):
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("f", "g"):
        (folder / "a" / "b" / name).write_text(name)
    first = shares.guest(folder)
    handles = [first.lookup(f"a/b/{name}") for name in ("f", "g", "..")]
    top = first.create("top")
    second = shares.guest(folder, shares.store(tmp_path / "another.db"))
    assert second.read(handles[0]) == (b"f", True)
    places = next(iter(second.exports.values())).places
    searched = places._searched
    assert second.read(handles[1]) == (b"g", True)
    assert second.attributes(handles[2]).kind == 2
    assert second.attributes(top).size == 0
    assert places._searched == searched, "one search finds all"


def test_what_is_not_there_is_not_searched_for_each_time(guest, monkeypatch, xdr):
    walks = []
    monkeypatch.setattr("hostvm.shares.tree.Tree.walk", lambda _: walks.append(1) or [])
    for number in range(5, 9):
        handle = next(iter(guest.exports)) + number.to_bytes(NUMBER_BYTES, "big")
        assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE
    assert walks == [1]


def test_a_search_enters_no_links(shares, folder, tmp_path, xdr):
    (folder / "out").symlink_to("..")
    secret = (tmp_path / "secret").stat().st_ino
    guest = shares.guest(folder)
    handle = next(iter(guest.exports)) + secret.to_bytes(NUMBER_BYTES, "big")
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE


def test_a_folder_that_was_renamed_here_is_known_by_its_new_name(guest, folder, xdr, nothing_is_searched):
    (folder / "a").mkdir()
    (folder / "a" / "f").write_text("content")
    inner, handle = guest.lookup("a"), guest.lookup("a/f")
    (folder / "a").rename(folder / "b")
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE
    assert guest.lookup("b") == inner
    assert guest.attributes(handle).size == 7
    assert guest.read(handle) == (b"content", True)
    (folder / "b").rename(folder / "c")
    guest.piece(guest.root, plus=True)
    assert guest.attributes(inner).kind == 2


def renamed_and_back(guest, folder):
    """What the guest calls a folder that was renamed here, seen there by its new name, and renamed back."""
    (folder / "a" / "inner").mkdir(parents=True)
    (folder / "a" / "inner" / "f").write_text("content")
    inner = guest.lookup("a/inner"), guest.lookup("a/inner/f")
    handle = guest.lookup("a")
    (folder / "a").rename(folder / "b")
    guest.piece(guest.root, plus=True)
    (folder / "b").rename(folder / "a")
    return handle, *inner


def test_a_folder_that_was_renamed_here_and_back_is_used_on(guest, folder, xdr, nothing_is_searched):
    handle, inner, file = renamed_and_back(guest, folder)
    assert guest.read(file) == (b"content", True), "before anybody asks for the folders around it"
    assert guest.lookup("..", inner) == handle
    assert guest.lookup("inner/f", handle) == file
    guest.create("made", folder=handle)
    guest.make(wire.MKDIR, "d", xdr.wish(), folder=handle)
    assert guest.rename("made", "moved", handle, inner) == wire.OK
    assert guest.remove("d", handle, wire.RMDIR) == wire.OK
    assert guest.status(wire.FSSTAT, xdr.text(handle)) == wire.OK
    assert sorted(str(one.relative_to(folder)) for one in folder.rglob("*")) == [
        "a",
        "a/inner",
        "a/inner/f",
        "a/inner/moved",
    ]


@pytest.mark.parametrize("act", ["remove", "rename away", "rename onto", "create", "link"])
def test_another_folder_by_a_name_that_one_had_for_a_while_is_left_alone(guest, folder, act, nothing_is_searched):
    """A container works in the first; what it removes and replaces there is not the other's."""
    handle, inner, file = renamed_and_back(guest, folder)
    (folder / "a" / "f").write_text("in a")
    (folder / "b" / "inner").mkdir(parents=True)
    (folder / "b" / "f").write_text("in b")
    assert {
        "remove": lambda: guest.remove("f", handle),
        "rename away": lambda: guest.rename("f", "g", handle, inner),
        "rename onto": lambda: guest.rename("f", "f", inner, handle),
        "create": lambda: int(not guest.create("g", folder=handle)),
        "link": lambda: guest.link(file, "g", handle),
    }[act]() == wire.OK
    assert sorted(str(one.relative_to(folder / "b")) for one in (folder / "b").rglob("*")) == ["f", "inner"]
    assert (folder / "b" / "f").read_text() == "in b"
    names = sorted(one.name for one in (folder / "a").iterdir())
    assert names == {"create": ["f", "g", "inner"], "link": ["f", "g", "inner"], "rename onto": ["f", "inner"]}.get(
        act, ["inner"]
    )


def test_what_was_renamed_here_and_back_is_found_within_any_folder(guest, folder, nothing_is_searched):
    """Both names are of one folder, which is looked for once."""
    (folder / "sub" / "d").mkdir(parents=True)
    (folder / "sub" / "f").write_text("content")
    inner, file = guest.lookup("sub/d"), guest.lookup("sub/f")
    for old, new in (("d", "e"), ("f", "g")):
        (folder / "sub" / old).rename(folder / "sub" / new)
    guest.piece(guest.lookup("sub"), plus=True)
    for old, new in (("d", "e"), ("f", "g")):
        (folder / "sub" / new).rename(folder / "sub" / old)
    assert guest.read(file) == (b"content", True)
    guest.create("made", folder=inner)
    assert (folder / "sub" / "d" / "made").exists()


def test_a_place_that_cannot_be_looked_into_hides_none_of_the_others(guest, folder, monkeypatch, nothing_is_searched):
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
    (folder / "a" / "f").write_text("content")
    for name in ("b", "c"):
        os.link(folder / "a" / "f", folder / name / "f")
    handle = guest.lookup("a/f")
    assert guest.lookup("c/f") == guest.lookup("b/f") == handle
    (folder / "b" / "f").unlink()
    export = next(iter(guest.exports.values()))
    see = export.tree.see

    def refuse(path):
        if path == "c/f":
            raise PermissionError(errno.EACCES, "no")
        return see(path)

    monkeypatch.setattr(export.tree, "see", refuse)
    assert guest.attributes(handle).size == 7
    (folder / "a" / "f").unlink()
    export.files.close()
    assert guest.status(wire.GETATTR, opaque(handle)) == 13, "it may be there still"


def test_a_search_finds_what_has_no_inode_number(shares, folder, tmp_path, monkeypatch):
    """As on FAT: what stands for it is its path."""
    (folder / "f").write_text("content")
    monkeypatch.setattr(Places, "number", lambda _, __, path: number_of(f"path {path}".encode()) if path else ROOT)
    first = shares.guest(folder)
    handle = first.lookup("f")
    assert shares.guest(folder, shares.store(tmp_path / "another.db")).attributes(handle).size == 7


def test_places_that_lead_in_a_circle_lead_nowhere(shares, folder, xdr):
    guest = shares.guest(folder)
    export = next(iter(guest.exports.values()))
    shares.stores[0].put(export.system, [(501, "a", 500), (500, "b", 501)])
    assert guest.status(wire.GETATTR, xdr.text(export.handle(500))) == wire.STALE


def test_more_files_than_are_kept_in_memory(shares, folder, monkeypatch, nothing_is_searched):
    monkeypatch.setattr("hostvm.shares.nfs.places._MOST", 3)
    (folder / "d").mkdir()
    guest = shares.guest(folder)
    handles = [guest.create(f"f{number}", folder=guest.lookup("d")) for number in range(10)]
    assert [guest.attributes(handle).size for handle in handles] == [0] * 10


def test_names_of_any_bytes_are_stored(shares, tmp_path):
    store = shares.store(tmp_path / "other.db")
    name = os.fsdecode(b"caf\xe9")
    store.put(1, [(3, name, 2)])
    assert store.places(1, 2) == [(3, name)]
    assert (store.places(2, 2), store.places(1, 3)) == ([], [])
    store.put(1, [(4, "other", 2)])
    assert store.places(1, 2) == [(4, "other"), (3, name)]
    store.put(1, [(4, "other", 5)])
    assert (store.places(1, 2), store.places(1, 5)) == ([(3, name), (4, "other")], [(4, "other")])
    store.forget(1, 3, name)
    store.forget(1, 3, name)
    assert store.places(1, 2) == [(4, "other")], "where it may be again, if this computer's user renames it back"
    store.forget(1, 4, "other")
    assert store.places(1, 5) == []


def test_what_waits_is_there_for_who_opens_the_file_next(tmp_path):
    store = PlaceStore(tmp_path / "places.db")
    store.put(1, [(3, "f", 2)])
    store.write()
    again = PlaceStore(tmp_path / "places.db")
    assert again.places(1, 2) == [(3, "f")]
    for one in (store, again):
        one._base.close()


def test_what_is_forgotten_and_found_again_is_written_in_that_order(shares, tmp_path):
    store = shares.store(tmp_path / "other.db")
    store.put(1, [(3, "a", 2), (3, "b", 2)])
    store.write()
    store.forget(1, 3, "a")
    store.forget(1, 3, "b")
    store.put(1, [(3, "b", 2), (3, "c", 2)])
    store.forget(1, 3, "c")
    assert store.places(1, 2) == [(3, "b")]
    store.write()
    assert shares.store(tmp_path / "other.db").places(1, 2) == [(3, "b")]


def test_names_that_are_others_by_now_are_kept_up_to_a_number(shares, tmp_path, monkeypatch):
    monkeypatch.setattr("hostvm.shares.nfs.places._FORMER_MOST", 2)
    store = shares.store(tmp_path / "other.db")
    for number in range(2, 7):
        store.put(1, [(3, "f", number)])
        store.write()
    assert [store.places(1, number) for number in range(2, 7)] == [[], [], [(3, "f")], [(3, "f")], [(3, "f")]]


def test_a_file_of_places_that_is_damaged_is_as_good_as_lost(shares, folder, tmp_path):
    shares.path.write_bytes(b"no database at all" * 500)
    guest = shares.guest(folder)
    assert guest.attributes(guest.create("f")).size == 0


def test_what_the_guest_removed_is_not_searched_for(guest, folder, xdr, monkeypatch):
    """A shell whose folder is gone asks for it with each command."""
    monkeypatch.setattr(Places, "_search", lambda *_: pytest.fail("it searches"))
    handle = guest.make(wire.MKDIR, "d", xdr.wish(mode=0o755))
    assert guest.status(wire.RMDIR, xdr.text(guest.root), xdr.text("d")) == wire.OK
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE


def test_a_search_that_takes_too_long_is_not_begun_again_at_once(guest, folder, xdr, monkeypatch):
    monkeypatch.setattr("hostvm.shares.nfs.places._SEARCH_SECONDS", -1.0)
    for name in "abc":
        (folder / name).mkdir()
    walks = []
    export = next(iter(guest.exports.values()))
    walk = export.tree.walk
    monkeypatch.setattr(export.tree, "walk", lambda: walks.append(1) or walk())
    for _ in range(3):
        assert guest.status(wire.GETATTR, xdr.text(export.handle(500))) == wire.STALE
    assert len(walks) == 1
