from __future__ import annotations

import errno
import json
import os
import tarfile

import pytest

from hostvm.doctor.bundle import _redacted_json, write_bundle
from hostvm.doctor.finding import Finding
from hostvm.doctor.redact import MASK
from hostvm.errors import UsageError


def test_what_is_masked_in_a_finding_leaves_its_json_whole(tmp_path):
    finding = Finding(
        "computer", "proxy", "fail", 'password: "a", hunter2-XYZ', "export HTTP_PROXY=http://me:hunter2@XYZ@proxy"
    )
    write_bundle(tmp_path / "b.tgz", [finding])
    with tarfile.open(tmp_path / "b.tgz") as tar:
        text = tar.extractfile("hostvm-doctor/doctor.json").read().decode()
    assert "XYZ" not in text
    assert json.loads(text)[0]["name"] == "proxy"


def test_a_state_that_is_no_json_is_masked_as_text():
    assert _redacted_json('{"password": "a, b') == f'{{"password": {MASK}'
    assert json.loads(_redacted_json('{"x": {"password": "a, \\"b"}}')) == {"x": {"password": MASK}}


def test_on_a_full_disk_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_bundle(tmp_path / "b.tgz", [])
    assert list(tmp_path.iterdir()) == []
    write_bundle(tmp_path / "b.tgz", [])
    assert [path.name for path in tmp_path.iterdir()] == ["b.tgz"]
    assert os.name == "nt" or (tmp_path / "b.tgz").stat().st_mode & 0o777 == 0o600


def test_what_breaks_off_leaves_no_half_of_one(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hostvm.doctor.bundle._add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b.tgz", [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    file = tmp_path / "b.tgz"

    def look():
        file.write_text("mine")
        return []

    monkeypatch.setattr("hostvm.doctor.bundle.observe_all", look)
    for _ in range(2):
        with pytest.raises(UsageError, match="exists"):
            write_bundle(file, [])
    assert file.read_text() == "mine"
