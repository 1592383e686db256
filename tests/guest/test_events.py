"""The program that acts out in the guest what changed here, run here over real folders."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hostvm.shares.events import HELPER, escaped


@pytest.fixture
def act():
    """Has deletions acted out; gives how many were told as done."""
    if sys.platform != "linux":
        pytest.skip("the guest is Linux")

    def run(*paths):
        lines = "".join(f"D {escaped(str(path))}\n" for path in paths).encode()
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
