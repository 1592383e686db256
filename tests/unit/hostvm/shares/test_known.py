"""What is told to the guest: each change once, its own never, and nothing that the telling itself caused."""

from __future__ import annotations

import os
import sys

import pytest

from hostvm.shares.events import Budget, act_of, escaped
from hostvm.shares.known import CHANGED, DELETED, Known

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


@pytest.fixture
def known():
    return Known()


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
        assert told == [("D", "/w/file"), ("CF", "/w/file"), None, None, ("M", "/w/file"), ("D", "/w/file"), None]
    else:
        assert told == [("A", "/w"), ("A", "/w/file"), None, None, ("A", "/w/file"), ("A", "/w"), None]


def test_what_the_guest_did_itself_is_not_told(known, tmp_path):
    (tmp_path / "made").write_text("by the guest")
    known.learn(str(tmp_path / "made"))
    assert act_of("added", str(tmp_path / "made"), "/w/made", known, served_here=True) is None


def test_files_in_a_folder_do_not_make_it_new(known, tmp_path):
    assert act_of("added", str(tmp_path), "/w", known, served_here=True) == ("CD", "/w")
    (tmp_path / "file").touch()
    assert act_of("modified", str(tmp_path), "/w", known, served_here=True) is None


def test_an_act_has_its_moment(known, monkeypatch):
    known.begin("/a", CHANGED)
    assert not known.acting("/a", DELETED)
    assert known.acting("/a", CHANGED)
    assert known.acting("/a", CHANGED, end=True)
    assert not known.acting("/a", CHANGED)
    known.begin("/a", CHANGED)
    later = __import__("time").monotonic() + 2
    monkeypatch.setattr("hostvm.shares.known.time.monotonic", lambda: later)
    assert not known.acting("/a", CHANGED), "an act that the guest never made must not hide a file for ever"


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
    known.foresee(path, there=True)
    (tmp_path / "file").write_text("half")
    assert act_of("added", path, "/w/file", known, served_here=True) == ("M", "/w/file")
    known.foresee(path, there=False)
    (tmp_path / "file").unlink()
    assert act_of("deleted", path, "/w/file", known, served_here=True) is None
    assert not known.acting(path, DELETED)
