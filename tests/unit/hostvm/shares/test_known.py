"""What is told to the guest: each change once, its own never, and nothing that the telling itself caused."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path
from unittest.mock import ANY

import pytest

from hostvm.shares.events import Budget, EventCarrier, Watched, act_of, escaped, in_order
from hostvm.shares.known import Known
from hostvm.shares.model import Mount
from hostvm.shares.service import ShareService

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


@pytest.fixture
def known():
    return Known()


def had(known, path):
    """A file that the guest knows of, and that is gone here."""
    with known.acting(path):
        Path(path).touch()
    Path(path).unlink()


@pytest.mark.parametrize("served_here", [True, False])
def test_a_change_is_told_once(known, tmp_path, served_here):
    file = tmp_path / "file"
    told = [act_of("added", str(file), "/w/file", known, served_here=served_here)]
    file.write_text("one")
    told += [act_of(change, str(file), "/w/file", known, served_here=served_here) for change in ("added", "modified")]
    # What acting it out does here: opens, and sets the time and mode that are there already.
    os.utime(file, ns=(0, file.stat().st_mtime_ns))
    file.chmod(file.stat().st_mode & 0o777)
    told += [act_of("modified", str(file), "/w/file", known, served_here=served_here)]
    file.write_text("three")
    told += [act_of("modified", str(file), "/w/file", known, served_here=served_here)]
    file.unlink()
    told += [act_of(change, str(file), "/w/file", known, served_here=served_here) for change in ("deleted", "added")]
    if served_here:
        assert told == [("D", "/w/file"), ("C", "/w/file"), None, None, ("M", "/w/file"), ("D", "/w/file"), None]
    else:
        assert told == [("A", "/w"), ("A", "/w/file"), None, None, ("A", "/w/file"), ("A", "/w"), None]


def test_what_is_new_is_told_as_made_where_that_can_be_acted_out(known, tmp_path):
    """By NFS: folders and what else there is; neither what the guest knows of nor what it makes itself."""

    def told(name, change="added", **named):
        return act_of(change, str(tmp_path / name), f"/w/{name}", known, served_here=True, **{"creates": True} | named)

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    acts = [told(name) for name in ("folder", "file", "link", "folder")]
    assert acts == [("F", "/w/folder"), ("N", "/w/file"), ("N", "/w/link"), None]
    (tmp_path / "folder").chmod(0o700)
    (tmp_path / "file").write_text("more")
    assert [told("folder", "modified"), told("file", "modified")] == [None, ("M", "/w/file")]
    (tmp_path / "folder").rename(tmp_path / "moved")
    assert [told("folder", "deleted"), told("moved")] == [("D", "/w/folder"), ("F", "/w/moved")]
    with known.acting(str(tmp_path / "own")):
        (tmp_path / "own").mkdir()
    (tmp_path / "by-sftp").mkdir()
    assert [told("own"), told("by-sftp", creates=False)] == [None, ("M", "/w/by-sftp")]


@pytest.mark.parametrize("change", ["added", "deleted"])
def test_a_folder_in_the_place_of_another_is_a_new_one(known, tmp_path, change):
    """Whoever watches the first hears nothing of what is in the second. The watcher may have told both as one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    assert known.hear(str(folder))
    folder.rename(tmp_path / "before")
    folder.mkdir()
    assert act_of(change, str(folder), "/w/folder", known, served_here=True, creates=True) == ("F", "/w/folder")


@pytest.mark.parametrize("heard", [True, False])
def test_a_folder_that_is_deleted_and_made_again_in_one_batch_is_new(known, tmp_path, heard):
    """`rm -r dist; mkdir dist`: where numbers are used again, too, and though nobody has heard of it before."""
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "old").touch()
    assert not heard or known.hear(str(folder))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "new").touch()
    changes = [("added", "dist"), ("added", "dist/new"), ("deleted", "dist"), ("deleted", "dist/old")]
    batch = [(change, str(tmp_path / name)) for change, name in changes]
    served = {"served_here": True, "creates": True}
    told = [
        act_of(change, path, path.replace(str(tmp_path), "/w"), known, **served) for change, path in in_order(batch)
    ]
    assert told == [("F", "/w/dist"), ("N", "/w/dist/new")]


def test_a_folder_of_before_that_is_changed_is_not_a_new_one(known, tmp_path):
    assert act_of("modified", str(tmp_path), "/w", known, served_here=True, creates=True) == ("M", "/w")


def test_folders_are_told_before_what_is_in_them_however_much_that_is(tmp_path):
    """As `npm install` makes them; whoever does not hear of a folder does not watch it."""
    (tmp_path / "m").mkdir()
    folders = [str(tmp_path / "m" / f"{number:03}") for number in range(300)]
    for folder in folders:
        Path(folder).mkdir()
    files = [f"{folder}/{number}" for folder in folders for number in range(10)]
    gone = [str(tmp_path / "gone"), str(tmp_path / "gone" / "inner"), *[f"{tmp_path}/old-{n}" for n in range(150)]]
    batch = [("added", path) for path in [*files, *reversed(folders), str(tmp_path / "m")]]
    order = in_order([*batch, *[("deleted", path) for path in gone]])
    assert len(order) == 500
    assert [path for change, path in order if change == "deleted"] == sorted(gone, reverse=True)
    there = [path for change, path in order if change != "deleted"]
    assert there[:301] == [str(tmp_path / "m"), *folders]
    assert there[301:] == sorted(files)[: 500 - 152 - 301]
    few = [("modified", files[0]), ("added", files[0]), ("added", folders[0]), ("deleted", gone[0])]
    assert in_order(few) == [few[3], few[2], few[1], few[0]]
    assert len(in_order([("deleted", f"/{number}") for number in range(600)])) == 500


def test_what_the_guest_did_itself_is_not_told(known, tmp_path):
    with known.acting(str(tmp_path / "made")):
        (tmp_path / "made").write_text("by the guest")
    assert act_of("added", str(tmp_path / "made"), "/w/made", known, served_here=True) is None


def test_files_in_a_folder_do_not_make_it_new(known, tmp_path):
    assert act_of("added", str(tmp_path), "/w", known, served_here=True) == ("M", "/w")
    (tmp_path / "file").touch()
    assert act_of("modified", str(tmp_path), "/w", known, served_here=True) is None


def test_a_change_has_its_moment(known, monkeypatch, tmp_path):
    path = str(tmp_path / "a")
    (tmp_path / "a").touch()
    os.utime(path, (5, 7))
    known.begin(path)
    known.begin(path)
    assert not known.retold(path, 8)
    os.utime(path, (5, 8))
    known.shown(path, 8)
    assert known.retold(path, 7)
    assert known.retold(path, 8)
    assert not known.retold(path, 8), "each has one"
    known.begin(path)
    later = __import__("time").monotonic() + 20
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: later)
    assert not known.retold(path, 8)


def test_what_the_guest_is_writing_is_not_told(known, tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    told = []

    def tell(change="modified"):
        told.append(act_of(change, str(file), "/w/file", known, served_here=True))

    known.opened(str(file))
    known.opened(str(file))
    for text in ("one", "and two"):
        file.write_text(text)
        tell()
        known.closed(str(file))
        tell()
    assert told == [None] * 4
    file.write_text("this computer's")
    tell()
    known.opened(str(file))
    file.unlink()
    tell("deleted")
    assert told[4:] == [("M", "/w/file"), ("D", "/w/file")]


def test_a_deletion_lasts_until_the_guest_has_made_it(known, monkeypatch):
    """However long that takes, and whatever else is told of the path."""
    known.bury("/a")
    known.begin("/a")
    begun = __import__("time").monotonic()
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: begun + 9)
    assert known.buried("/a")
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: begun + 3600)
    assert known.swallows("/a", there=True)
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: begun + 9)
    assert not known.buried("/a"), "it is seen no longer than until it is taken away"
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: begun + 3600)
    assert known.swallows("/a", there=True), "another program's removal may have come first"
    assert not known.swallows("/a", there=False)
    known.settle("/a")
    assert not known.swallows("/a", there=True)
    known.settle("/a")


def test_what_is_gone_is_not_shown_for_as_long_as_the_guest_cannot_be_told(known, monkeypatch):
    """Its ssh is cut: a container makes a file of that name again long before anybody notices, and keeps it."""
    known.bury("/a/b")
    later = __import__("time").monotonic() + 3600
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: later)
    assert (known.buried("/a/b"), known.buried("/a")) == ("", "")
    assert known.swallows("/a/b", there=True), "the removal that it is told of comes at last"
    known.settle("/a/b")
    assert not known.swallows("/a/b", there=True)


def test_folders_above_a_deletion_are_seen_as_folders(known, tmp_path):
    """`rm -r a`: the helper reaches a/b/c through folders that are not there any more."""
    folder = tmp_path / "a"
    folder.mkdir()
    assert known.hear(str(folder)).there
    folder.rmdir()
    assert known.hear(str(folder)) == (True, False)
    inner = str(folder / "b" / "c")
    known.bury(inner)
    assert [known.buried(path) for path in (inner, str(folder / "b"), str(folder))] == ["file", "folder", "folder"]
    known.settle(inner)
    assert known.buried(str(folder)) == ""
    known.bury(str(folder))
    assert known.buried(str(folder)) == "folder"


def test_folders_that_are_gone_are_remembered_up_to_a_number(known, tmp_path, monkeypatch):
    """Where others serve, no deletion is acted out that would let go of them."""
    monkeypatch.setattr("hostvm.shares.known._MOST", 3)
    for number in range(9):
        folder = tmp_path / str(number)
        folder.mkdir()
        for change in ("added", "deleted"):
            assert act_of(change, str(folder), f"/w/{number}", known, served_here=False)
            shutil.rmtree(folder, ignore_errors=True)
    assert list(known._folders) == [str(tmp_path / number) for number in "678"]
    known.bury(str(tmp_path / "8"))
    assert known.buried(str(tmp_path / "8")) == "folder"


def test_what_was_changed_here_beside_a_containers_own_act_is_still_told(known, tmp_path):
    file = tmp_path / "f"
    file.write_text("one")
    assert known.hear(str(file))
    file.write_text("longer")
    with known.setting(str(file)):
        file.chmod(0o600)
    assert known.hear(str(file)) == (True, True), "it was saved here before a container's chmod"
    with known.setting(str(file)):
        os.utime(file, (1, 1))
    assert known.hear(str(file)) is None
    file.unlink()
    with contextlib.suppress(FileNotFoundError), known.acting(str(file), removes=True):
        file.unlink()
    assert known.hear(str(file)) == (True, False), "the container's rm came too late"
    file.write_text("again")
    with known.acting(str(file), removes=True):
        file.unlink()
        file.write_text("made here, at once")
    assert known.hear(str(file)) == (False, True)


def test_what_the_guests_kernel_was_shown_last_is_no_time_of_its_own(known, tmp_path):
    """It keeps attributes for a moment: acting out a change may set the time of before."""
    path = str(tmp_path / "f")
    (tmp_path / "f").touch()
    known.shown(path, 100)
    os.utime(path, (900, 900))
    known.begin(path)
    assert known.retold(path, 100)


def test_a_deletion_that_the_guest_never_got_to_is_over_with_its_turn(known):
    known.bury("/a")
    known.bury("/a")
    known.settle("/a")
    assert known.buried("/a")
    known.settle("/a")
    assert not known.buried("/a")


def test_any_path_fits_into_a_line_of_the_helper():
    text = escaped("/a b\n'\\é")
    assert text.isascii()
    assert " " not in text
    assert "\n" not in text
    assert bytes(int(part, 8) for part in text.split("\\0")[1:]).decode() == "/a b\n'\\é"


def test_a_containers_build_is_not_acted_out_file_by_file():
    now = [10.0]
    budget = Budget(lambda: now[0])
    many = [("A", f"/w/out/{number}") for number in range(100)]
    assert budget.within([("A", "/w/a"), ("A", "/w/a"), ("D", "/s/b")]) == [("D", "/s/b"), ("A", "/w/a")]
    assert budget.within(many) == [("A", "/w/out")]
    now[0] = 10.9
    assert budget.within([("A", f"/w/{number}") for number in range(18)]) == [("A", f"/w/{n}") for n in range(18)]
    assert budget.within([("A", "/w/c"), ("M", "/s/c")]) == [("M", "/s/c")]
    now[0] = 11.0
    assert budget.within([("A", "/w/c")]) == [("A", "/w/c")]


def test_what_the_guest_is_making_is_never_hidden_from_it(tmp_path):
    """The watcher may be quicker than the server that makes the file, or see it while it is still being written."""
    known, path = Known(), str(tmp_path / "file")
    with known.acting(path):
        (tmp_path / "file").write_text("half")
        assert act_of("added", path, "/w/file", known, served_here=True) is None
    assert act_of("added", path, "/w/file", known, served_here=True) is None
    with known.acting(path):
        assert act_of("modified", path, "/w/file", known, served_here=True) is None
        (tmp_path / "file").unlink()
        assert act_of("deleted", path, "/w/file", known, served_here=True) is None
    assert act_of("deleted", path, "/w/file", known, served_here=True) is None
    assert not known.buried(path)


def test_a_name_that_the_guest_makes_and_removes_all_the_time_is_never_called_deleted_here(tmp_path):
    """A lock file; however the watcher's looks fall between."""
    known, file, told, stop = Known(), tmp_path / "lock", [], threading.Event()

    def watch():
        while not stop.is_set():
            told.append(act_of("deleted", str(file), "/w/lock", known, served_here=True))

    watcher = threading.Thread(target=watch)
    for number in range(300):
        with known.acting(str(file)):
            file.touch()
        with known.acting(str(file)):
            file.unlink()
        if number == 0:
            watcher.start()
    stop.set()
    watcher.join()
    assert set(told) == {None}


def test_only_a_deletion_that_is_told_is_played(known, tmp_path):
    """Those beyond the first 500 of a batch are not."""
    told: list[str] = []

    class Told:
        def tell(self, acts):
            told.extend(path for _, path, _ in acts)

    watched = [Watched(str(tmp_path), "/w", known, True)]
    names = [str(tmp_path / f"{number:03}") for number in range(600)]
    for name in names:
        had(known, name)
    EventCarrier(lambda _: None)._act({True: Told()}, [("deleted", name) for name in names], watched)
    assert len(told) == 500
    assert not any(known.buried(name) for name in names)


def test_a_new_folder_is_told_as_made_before_what_is_in_it(known, tmp_path):
    told: list[tuple[str, str]] = []

    class Told:
        def tell(self, acts):
            told.extend(act[:2] for act in acts)

    (tmp_path / "new" / "inner").mkdir(parents=True)
    (tmp_path / "new" / "file").touch()
    batch = [("added", str(tmp_path / "new" / name)) for name in ("file", "inner", "")]
    watched = [Watched(str(tmp_path), "/w", known, served_here=True, creates=True)]
    EventCarrier(lambda _: None)._act({True: Told()}, [(change, path.rstrip("/")) for change, path in batch], watched)
    assert told == [("F", "/w/new"), ("F", "/w/new/inner"), ("N", "/w/new/file")]


@pytest.mark.parametrize("kind", ["nfs", "sftp"])
def test_creations_are_acted_out_by_the_server_that_knows_who_asks(tmp_path, kind):
    """By sftp a folder that is gone again would be made on this computer."""
    service = ShareService([Mount(str(tmp_path), "/a", False, kind)], tmp_path, "10.0.2.2")
    service._shares[0].state = "mounted"
    assert service._watched("/a") == Watched(str(tmp_path), "/a", ANY, served_here=True, creates=kind == "nfs")


def test_what_another_share_covers_is_not_acted_out_on_that_share(known, tmp_path):
    """Deleted here below /a/sub, which in the guest is another folder: the file of that name there is not this one."""
    told: list[tuple[str, str]] = []

    class Told:
        def tell(self, acts):
            told.extend(act[:2] for act in acts)

    class Carrier:
        def carry(self, guest, watched):
            self.watched = watched

    outer, other, inner = (tmp_path / name for name in ("outer", "other", "outer/inner"))
    for folder in (outer / "sub", other, inner):
        folder.mkdir(parents=True)
    service = ShareService(
        [Mount(str(outer), "/a", False), Mount(str(other), "/a/sub", False), Mount(str(inner), "/a/inner", False)],
        tmp_path,
        "10.0.2.2",
    )
    service._guest, service._carrier = object(), Carrier()
    for share in service._shares:
        share.state = "mounted"
    service.watch(["/a"])
    watched = sorted(service._carrier.watched, key=lambda one: -len(one.source))
    assert [one.target for one in watched] == ["/a/inner", "/a", "/a/sub"]
    paths = [str(folder / "f") for folder in (outer / "sub", other, inner, outer)]
    for one in watched:
        for path in paths:
            had(one.known, path)
    EventCarrier(lambda _: None)._act({True: Told()}, [("deleted", path) for path in paths], watched)
    assert sorted(told) == [("D", "/a/f"), ("D", "/a/inner/f"), ("D", "/a/sub/f")]
    told.clear()
    for one in watched:
        had(one.known, paths[0])
    EventCarrier(lambda _: None)._act({True: Told()}, [("deleted", paths[0])], watched)
    assert told == []
