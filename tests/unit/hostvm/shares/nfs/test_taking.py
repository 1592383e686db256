"""What is removed and renamed, on a real folder."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.places import ROOT
from hostvm.shares.open_folder import OpenFolder, Place
from hostvm.shares.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

NOENT, NOTDIR, NOTEMPTY = 2, 20, 66


@pytest.mark.parametrize("seen_last", ["kept", "gone"])
def test_a_file_outlives_the_name_that_it_was_seen_by(guest, folder, seen_last):
    """`ls -l` of both names comes between a program's open and its read."""
    handle = guest.create("gone")
    guest.write(handle, b"content")
    assert guest.link(handle, "kept") == wire.OK
    for name in {"gone": ("kept", "gone"), "kept": ("gone", "kept")}[seen_last]:
        assert guest.lookup(name) == handle
    assert guest.remove("gone") == wire.OK
    next(iter(guest.exports.values())).files.close()  # as after some seconds
    assert guest.attributes(handle).links == 1
    assert guest.read(handle) == (b"content", True)


def test_remove_and_rmdir(guest, folder, xdr):
    (folder / "d").mkdir()
    (folder / "d" / "f").touch()
    handle = guest.lookup("d/f")
    assert guest.remove("d", procedure=wire.RMDIR) == NOTEMPTY
    assert guest.remove("f", guest.lookup("d")) == wire.OK
    assert guest.status(wire.GETATTR, xdr.text(handle)) == wire.STALE
    assert guest.remove("f", guest.lookup("d")) == NOENT
    gone = guest.lookup("d")
    assert guest.remove("d", procedure=wire.RMDIR) == wire.OK
    assert guest.status(wire.GETATTR, xdr.text(gone)) == wire.STALE
    assert guest.remove("f", gone) == wire.STALE
    guest.create("f")
    assert guest.remove("f", procedure=wire.RMDIR) == NOTDIR
    assert [one.name for one in folder.iterdir()] == ["f"]


def test_a_rename_replaces_what_is_there(guest, folder, xdr):
    first, second = guest.create("a"), guest.create("b")
    guest.write(first, b"a")
    guest.write(second, b"b")
    assert guest.rename("a", "b") == wire.OK
    assert [(one.name, one.read_text()) for one in folder.iterdir()] == [("b", "a")]
    assert guest.read(first) == (b"a", True)
    assert guest.lookup("b") == first
    assert guest.status(wire.GETATTR, xdr.text(second)) == wire.STALE
    assert guest.rename("a", "b") == NOENT


def test_a_folders_files_are_known_after_its_rename(guest, folder):
    for one in ("a/b/c", "other"):
        (folder / one).mkdir(parents=True)
    (folder / "a" / "b" / "c" / "f").write_text("content")
    inner, handle = guest.lookup("a/b"), guest.lookup("a/b/c/f")
    assert guest.rename("a", "moved", guest.root, guest.lookup("other")) == wire.OK
    assert guest.read(handle) == (b"content", True)
    assert guest.attributes(inner).kind == 2
    guest.create("new", folder=inner)
    assert (folder / "other" / "moved" / "b" / "new").exists()
    (folder / "full").mkdir()
    (folder / "full" / "f").touch()
    assert guest.rename("other", "full") == NOTEMPTY


def test_two_names_of_one_file_stay_when_one_is_renamed_to_the_other(guest, folder, known):
    handle = guest.create("a")
    assert guest.link(handle, "b") == wire.OK
    assert guest.rename("a", "b") == wire.OK
    assert guest.attributes(handle).links == 2
    assert [known.hear(str(folder / name)) for name in "ab"] == [None, None], "nothing is new there"


@pytest.fixture
def _case_is_ignored(monkeypatch):
    """As macOS and Windows do: a name is found however it is written, and written anew by a rename alone."""
    plain = OpenFolder.place

    @contextlib.contextmanager
    def place(folder, path):
        with plain(folder, path) as asked:
            names = {name.casefold(): name for name in os.listdir(asked.folder)}  # noqa: PTH208 - a descriptor
            yield Place(asked.folder, names.get(asked.name.casefold(), asked.name))

    def rename(tree, old, new):
        with tree._root.place(old) as source, plain(tree._root, new) as target:
            os.replace(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder)

    monkeypatch.setattr(OpenFolder, "place", place)
    monkeypatch.setattr(Tree, "rename", rename)


@pytest.mark.usefixtures("_case_is_ignored")
def test_a_rename_that_changes_the_letters_case_alone_is_one(guest, folder, known):
    handle = guest.create("a.txt")
    guest.write(handle, b"content")
    assert guest.rename("a.txt", "A.TXT") == wire.OK
    assert [one.name for one in folder.iterdir()] == ["A.TXT"]
    assert guest.read(handle) == (b"content", True)
    guest.write(handle, b"the guest's own")
    assert known.hear(str(folder / "A.TXT")) is None, "by the name that it has now"
    assert guest.lookup("A.TXT") == handle
    assert guest.rename("A.TXT", "b") == wire.OK
    assert guest.remove("B") == wire.OK
    assert list(folder.iterdir()) == []


def test_nothing_is_renamed_or_linked_into_another_share(shares, folder, tmp_path):
    (tmp_path / "other").mkdir()
    guest = shares.guest(folder)
    other = shares.export(tmp_path / "other", shares.stores[0], "b7" * 32)
    guest.exports[other.token] = other
    handle = guest.create("f")
    assert guest.rename("f", "f", guest.root, other.handle(ROOT)) == 18
    assert guest.link(handle, "f", other.handle(ROOT)) == 18


@pytest.mark.parametrize("act", ["remove", "rmdir", "rename"])
def test_a_folder_that_is_replaced_here_while_the_disk_is_waited_for_loses_nothing(guest, folder, monkeypatch, act):
    """What was looked at is what something is done in, though another folder has its name by then."""
    (folder / "in" / "a" / "d").mkdir(parents=True)
    (folder / "in" / "a" / "f").write_text("the container's")
    inner = guest.lookup("in/a")

    def replace():
        (folder / "in" / "a").rename(folder / "in" / "b")
        (folder / "in" / "a" / "d").mkdir(parents=True)
        (folder / "in" / "a" / "f").write_text("another's")

    monkeypatch.setattr(guest.server._lasting, "drain", replace)
    {
        "remove": lambda: guest.remove("f", inner),
        "rmdir": lambda: guest.remove("d", inner, wire.RMDIR),
        "rename": lambda: guest.rename("f", "g", inner),
    }[act]()
    monkeypatch.undo()
    assert sorted(one.name for one in (folder / "in" / "a").iterdir()) == ["d", "f"]
    assert (folder / "in" / "a" / "f").read_text() == "another's"
    names = sorted(one.name for one in (folder / "in" / "b").iterdir())
    assert names == {"remove": ["d"], "rmdir": ["f"], "rename": ["d", "g"]}[act]


def test_folders_are_open_for_the_time_of_a_call_only(guest, folder):
    """Also of a path that is deeper than are kept open at once."""
    way = "/".join(str(number) for number in range(70))
    (folder / way).mkdir(parents=True)
    deepest = guest.lookup(way)
    guest.create("f", folder=deepest)
    guest.remove("f", deepest)
    assert guest.rename("none", "g", deepest) == 2
    root = next(iter(guest.exports.values())).tree._root
    assert root._held == {}
    assert list((folder / way).iterdir()) == []
    next(iter(guest.exports.values())).close()
    if sys.platform == "linux":
        where = {os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()}
        assert not [one for one in where if one.startswith(f"{folder}/0")]


def test_a_folder_that_cannot_be_closed_is_not_taken_for_one_of_the_next_call(guest, folder, monkeypatch):
    """As where its file system went away: by then another one has its name."""
    (folder / "a" / "b").mkdir(parents=True)
    inner = guest.lookup("a/b")
    real = os.close

    def fail(descriptor):
        real(descriptor)
        raise OSError(errno.EIO, "its file system is gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        guest.remove("none", inner)
    assert next(iter(guest.exports.values())).tree._root._held == {}
    assert guest.remove("b", guest.lookup("a"), wire.RMDIR) == wire.OK
