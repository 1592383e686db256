from __future__ import annotations

import os
import platform
from dataclasses import replace

import pytest

from cli import unfinished
from cli.commands.image import _write_folder
from cli.output import opened_output
from hostvm.process_id import identify


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_command_left_goes_with_the_next_into_that_folder(tmp_path, monkeypatch):
    own = identify(os.getpid())
    with opened_output(str(tmp_path / "old")):
        (left,) = names(tmp_path)
        assert left.startswith(".old.")
    (tmp_path / left).write_bytes(b"half")
    monkeypatch.setattr(unfinished, "identify", lambda _: replace(own, started=own.started + 1))
    with opened_output(str(tmp_path / "new")) as file:
        file.write(b"whole")
    assert names(tmp_path) == ["new", "old"]


def test_so_do_folders(tmp_path, monkeypatch):
    one = identify(os.getppid())
    left = unfinished.part_name(tmp_path / "old", replace(one, started=one.started + 1))
    (left / "blobs").mkdir(parents=True)
    monkeypatch.setattr("cli.commands.image.write_layout_folder", lambda _, beside: beside.mkdir())
    _write_folder(tmp_path / "new", tmp_path / "image.tar")
    assert names(tmp_path) == ["new"]


def test_a_number_that_another_process_has_now_is_told_apart(tmp_path):
    one = identify(os.getppid())
    unfinished.part_name(tmp_path / "old", replace(one, started=one.started + 1)).touch()
    unfinished.new_part(tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("what", ["it lives", "another computer's", "hidden from us", "nobody can be seen", "no part"])
def test_what_may_be_being_written_stays(what, tmp_path, monkeypatch):
    one, old = identify(os.getppid()), tmp_path / "old"
    gone = replace(one, started=one.started + 1)
    if what == "it lives":
        path = unfinished.part_name(old, one)
    elif what == "another computer's":
        monkeypatch.setattr(platform, "node", lambda: "other")
        path = unfinished.part_name(old, gone)
        monkeypatch.undo()
    elif what == "no part":
        path = tmp_path / f".old.{gone.pid}.part"
    else:
        path = unfinished.part_name(old, gone)
        seen = {os.getpid(): identify(os.getpid())} if what == "hidden from us" else {}
        monkeypatch.setattr(unfinished, "identify", seen.get)
    path.touch()
    unfinished.new_part(tmp_path / "new")
    assert names(tmp_path) == [path.name]
