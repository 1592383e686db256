from __future__ import annotations

import sys

import pytest

from cli.commands import life
from cli.contexts import drop_context, keep_context, machine_context
from cli.manage import build_parser
from hostvm.errors import HostvmError
from hostvm.machines import remove
from hostvm.paths import MachinePaths
from hostvm.state import MachineState, save_state
from images.progress import NullProgress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no docker client of Windows can follow one yet")


class Notes(NullProgress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def paths(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return MachinePaths.of("default")


def test_made_with_the_machine_and_gone_with_it(paths):
    keep_context(paths, Notes())
    facts = machine_context(paths).describe()
    assert (facts["state"], facts["host"], facts["current"]) == ("ours", f"unix://{paths.docker_sock}", False)
    keep_context(paths, Notes(), use=True)
    assert machine_context(paths).describe()["current"]
    drop_context(paths, Notes())
    assert machine_context(paths).describe()["state"] == "missing"


def test_an_unwritable_place_is_a_note_unless_it_was_asked_for(paths, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "file"))
    progress = Notes()
    keep_context(paths, progress)
    assert "docker context hostvm was not written" in progress.notes[0]
    with pytest.raises(OSError, match="file"):
        keep_context(paths, progress, use=True)
    drop_context(paths, progress)
    assert machine_context(paths).describe()["state"] == "unreadable"


def test_a_foreign_context_is_a_note_unless_it_was_asked_for(paths):
    file = machine_context(paths).path
    file.parent.mkdir(parents=True)
    file.write_text('{"Name": "hostvm"}')
    progress = Notes()
    keep_context(paths, progress)
    assert "left alone" in progress.notes[0]
    with pytest.raises(HostvmError):
        keep_context(paths, progress, use=True)


def test_a_variable_that_goes_before_contexts_is_named(paths, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere")
    keep_context(paths, Notes(), use=True)
    assert "unset DOCKER_HOST" in capsys.readouterr().err


def test_it_is_gone_though_the_machines_removal_is_broken_off(paths, monkeypatch):
    paths.folder.mkdir(parents=True)
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now"))
    keep_context(paths, Notes())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(remove, "delete_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        life.remove(build_parser().parse_args(["rm", "--force", "default"]))
    assert machine_context(paths).describe()["state"] == "missing"
