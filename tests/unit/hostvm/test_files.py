from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostvm import files
from hostvm.files import private_folder, rewrite, tail, write_atomic


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"one")
    write_atomic(path, b"two", 0o644)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hostvm.files.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(("platform", "busy", "moves"), [("win32", 3, True), ("linux", 1, False)])
def test_a_file_that_a_scanner_holds_is_waited_for_on_windows(tmp_path, monkeypatch, platform, busy, moves):
    tries = []
    real = Path.replace

    def replace(self, target):
        tries.append(self)
        if len(tries) <= busy:
            raise PermissionError(13, "Access is denied")
        return real(self, target)

    monkeypatch.setattr(files.sys, "platform", platform)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "replace", replace)
    (tmp_path / "a").write_text("")
    with contextlib.nullcontext() if moves else pytest.raises(PermissionError):
        files.move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").exists() is moves
    assert len(tries) == (busy + 1 if moves else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="NTFS keeps the order of names by itself")
@pytest.mark.parametrize(("has_it", "how"), [(True, [51]), (False, [51, "fsync"])])
def test_what_is_to_outlive_a_power_failure_leaves_the_drives_own_memory_on_macos(tmp_path, monkeypatch, has_it, how):
    done = []

    def call(_, command):
        done.append(command)
        if not has_it:
            raise OSError(45, "Operation not supported")

    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(fcntl=call, F_FULLFSYNC=51))
    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(files.os, "fsync", lambda _: done.append("fsync"))
    (tmp_path / "f").touch()
    files.remove_for_good(tmp_path / "f")
    assert done == how
    (tmp_path / "g").touch()
    files.flush(tmp_path / "g")
    assert done == how * 3


def test_a_private_folder_is_closed_to_others(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o755)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700


def test_tail(tmp_path):
    path = tmp_path / "log"
    assert tail(path, 3) == ""
    path.write_bytes(b"one\r\ntwo\nthree\xff\n")
    assert tail(path, 2) == "two\nthree\ufffd"
    assert tail(path, 0) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_a_link_to_a_file_elsewhere_stays_one_when_that_is_rewritten(tmp_path):
    """Settings that lie in a repository of somebody's own."""
    (tmp_path / "elsewhere").mkdir()
    place, link = tmp_path / "elsewhere" / "real.yaml", tmp_path / "machine.yaml"
    place.write_text("before")
    place.chmod(0o640)
    link.symlink_to("elsewhere/real.yaml")
    rewrite(link, "after")
    assert link.is_symlink()
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("after", 0o640)
    assert [one.name for one in (tmp_path / "elsewhere").iterdir()] == ["real.yaml"]
