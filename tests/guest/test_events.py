"""The program that acts out in the guest what changed here, run here over real folders."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hostvm.shares.events import HELPER, escaped


@pytest.fixture
def act():
    """Has acts acted out, deletions unless told otherwise; gives how many were told as done."""
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")

    def run(*paths, kinds="D"):
        lines = "".join(f"{kind} {escaped(str(path))}\n" for path in paths for kind in kinds).encode()
        done = subprocess.run(["/bin/sh", "-c", HELPER], input=lines, capture_output=True, timeout=60, check=True)
        return done.stdout.count(b"\n")

    return run


def test_what_is_deleted_here_is_taken_away_by_its_own_name(act, tmp_path):
    names = ["file", "a name\twith blanks", "-f", "line\nend", "folder", "outer/inner/file"]
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    for name in names:
        if name != "folder":
            (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "outer")
    told = [tmp_path / name for name in (*names, "outer/inner", "link", "none", "none/file")]
    assert act(*told) == len(told)
    assert [entry.name for entry in tmp_path.iterdir()] == ["outer"], "of a link the link itself"
    assert not list((tmp_path / "outer").iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_taken_away_where_a_link_leads(act, tmp_path, kind):
    """A container swaps a folder for a link before its deletions are acted out; our own server asks for no rights."""
    (tmp_path / "elsewhere" / "inner").mkdir(parents=True)
    kept = tmp_path / "elsewhere" / "inner" / "name"
    kept.touch() if kind == "file" else kept.mkdir()
    (tmp_path / "swapped").symlink_to("elsewhere")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    told = [tmp_path / "swapped" / "inner" / "name", tmp_path / "swapped" / "inner", tmp_path / "own" / "file"]
    assert act(*told) == len(told), "the server waits for each"
    assert kept.exists()
    assert not (tmp_path / "own" / "file").exists(), "what comes after it is acted out"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_touched_where_a_link_leads(act, tmp_path, kind):
    """Of 9p and virtiofs this is done by root: a device would be opened, a mode set that was another file's."""
    outside = tmp_path / "outside"
    kept = outside / "name"
    outside.mkdir()
    kept.touch() if kind == "file" else kept.mkdir()
    (tmp_path / "swapped").symlink_to(outside)
    (tmp_path / "link").symlink_to(kept)
    before = [path.stat().st_ctime_ns for path in (outside, kept)]
    for path in (tmp_path / "swapped" / "name", tmp_path / "link"):
        for told in "ACFMN":
            act(path, kinds=told)
            assert [path.stat().st_ctime_ns for path in (outside, kept)] == before, told
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["link", "name", "outside", "swapped"]


@pytest.mark.parametrize("told", ["A", "C", "M"])
def test_what_is_told_as_changed_keeps_all_but_the_time_of_its_change(act, tmp_path, told):
    file, folder = tmp_path / "-f\ta", tmp_path / "folder"
    file.write_text("kept")
    file.chmod(0o4751)
    folder.mkdir(mode=0o700)
    for path in (file, folder):
        before, above = path.stat(), tmp_path.stat().st_ctime_ns
        act(path, kinds=told)
        after = path.stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
        seen = after.st_ctime_ns != before.st_ctime_ns or tmp_path.stat().st_ctime_ns != above
        assert seen, f"{path.name} is told by nothing"
    assert file.read_text() == "kept"
