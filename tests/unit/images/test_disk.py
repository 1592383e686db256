from __future__ import annotations

import errno
import threading

import pytest

from images.disk import disk_full_explained, replace_folder, sha256_file, temporary_folder, work_lock
from images.errors import DiskFullError, ImageError
from images.progress import NullProgress


def test_a_full_disk_is_explained(tmp_path):
    with pytest.raises(DiskFullError) as error, disk_full_explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.brief == f"no space left in {tmp_path}"
    assert "HOSTVM_CACHE" in error.value.resolution
    with pytest.raises(PermissionError), disk_full_explained(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_folder_takes_another_ones_place(tmp_path):
    target = tmp_path / "cache" / "target"
    for content in ("old", "new"):
        made = tmp_path / "made"
        made.mkdir()
        (made / content).touch()
        replace_folder(made, target)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_folder_that_is_in_use_stays(tmp_path, monkeypatch):
    """As on Windows, where an open file holds its folder's name."""

    def refuse(self, _target):
        raise PermissionError(errno.EACCES, "in use", str(self))

    made, target = tmp_path / "made", tmp_path / "target"
    for folder in (made, target):
        folder.mkdir()
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(ImageError, match="is damaged and cannot be replaced"):
        replace_folder(made, target)
    assert target.is_dir()


def test_a_temporary_folder_goes_away(tmp_path):
    def interrupted():
        with temporary_folder(tmp_path / "new") as folder:
            (folder / "file").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "new").iterdir()) == []


def test_waiting_for_another_is_said(tmp_path):
    held, told = threading.Event(), threading.Event()
    notes = []

    class Telling(NullProgress):
        def note(self, text):
            notes.append(text)
            told.set()

    def other():
        with work_lock(tmp_path / "work", NullProgress()):
            held.set()
            told.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    with work_lock(tmp_path / "work", Telling()):
        assert notes == [f"another hostvm works in {tmp_path / 'work'}; waiting for it"]
    thread.join()


def test_hash(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    assert sha256_file(tmp_path / "x").startswith("e3b0c442")
