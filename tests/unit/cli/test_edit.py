"""`hostvm edit`: which editor, and what happens to what was written in it."""

from __future__ import annotations

import argparse
import os
import shutil

import pytest

from cli.commands import settings
from cli.edit import find_editor
from hostvm.errors import HostvmError, MachineError, SpecError, UsageError
from hostvm.machines.change import Outcome
from hostvm.paths import MachinePaths

GOOD = "# mine\ncpus: 1\n"


def nothing(program):
    return None


def test_the_editor_is_what_the_user_named():
    assert find_editor({"VISUAL": "code --wait", "EDITOR": "vi"}, nothing, "linux") == ["code", "--wait"]
    assert find_editor({"VISUAL": " ", "EDITOR": "'my editor'"}, nothing, "darwin") == ["my editor"]
    assert find_editor({"EDITOR": '"C:\\Program Files\\e.exe" -w'}, nothing, "win32") == [
        "C:\\Program Files\\e.exe",
        "-w",
    ]


def test_or_what_the_system_has():
    assert find_editor({}, lambda program: program if program in ("vi", "nano") else None, "linux") == ["nano"]
    assert find_editor({}, str, "win32") == ["notepad"]
    with pytest.raises(UsageError, match="no editor"):
        find_editor({}, nothing, "linux")
    with pytest.raises(UsageError, match="cannot be read"):
        find_editor({"EDITOR": "vi 'x"}, nothing, "linux")


@pytest.fixture
def paths():
    found = MachinePaths.of("ci")
    found.folder.mkdir(parents=True)
    found.spec.write_text(GOOD)
    return found


@pytest.fixture
def edit(paths, monkeypatch):
    """`edit(text, ...)`: the editor writes these texts, one at each call; gives the status and what was saved."""
    saved: list[str] = []
    monkeypatch.setenv("EDITOR", "fake")
    monkeypatch.setattr(settings, "on_terminal", lambda: True)

    def run(*texts, answer=False, status=0):
        left = list(texts)

        def editor(argv):
            if left[0] is not None:
                argv[1].write_text(left[0])
            del left[0]
            return status

        def save(paths, text, after, before):
            paths.spec.write_text(text)
            saved.append(text)
            return Outcome(("cpus",), ())

        monkeypatch.setattr(settings.process, "run_attached", editor)
        monkeypatch.setattr(settings, "apply_change", save)
        if answer is not None:
            monkeypatch.setattr(settings, "offer", lambda _: answer)
        options = argparse.Namespace(name="ci", machine="", quiet=True, json=False, restart=False)
        return settings.edit(options), saved

    return run


def test_a_sound_text_is_saved(edit, paths):
    assert edit("cpus: 1 # one\n") == (0, ["cpus: 1 # one\n"])
    assert not paths.spec_draft.exists()


def test_no_change_is_none(edit, paths):
    assert edit(None) == (0, [])
    assert not paths.spec_draft.exists()


def test_a_wrong_text_is_kept_and_its_place_told(edit, paths, capsys):
    assert edit("cpus: 1\ncolour: red\n") == (1, [])
    told = capsys.readouterr().err
    assert "line 2: colour: unknown key" in told
    assert "go on with: hostvm edit ci" in told
    assert paths.spec.read_text() == GOOD
    assert paths.spec_draft.read_text() == "cpus: 1\ncolour: red\n"
    assert edit("cpus: 1\n") == (0, ["cpus: 1\n"]), "the next edit goes on with it"
    assert not paths.spec_draft.exists()


def test_it_may_be_mended_at_once(edit):
    assert edit("colour: red\n", "cpus: 1\n", answer=True) == (0, ["cpus: 1\n"])


def test_where_nobody_sees_the_question_it_is_not_edited_again(edit, paths):
    assert edit("colour: red\n", answer=None) == (1, [])
    assert paths.spec_draft.exists()


def test_an_editor_that_fails_saves_nothing(edit, paths):
    with pytest.raises(HostvmError, match="status 1"):
        edit("cpus: 1 # more\n", status=1)
    assert paths.spec.read_text() == GOOD


def test_a_file_changed_meanwhile_is_not_overwritten(edit, paths, monkeypatch, capsys):
    def both(paths_, base, text, options):
        paths.spec.write_text("cpus: 1 # theirs\n")
        return real(paths_, base, text, options)

    real = settings._save_draft
    monkeypatch.setattr(settings, "_save_draft", both)
    assert edit("cpus: 1 # mine\n") == (1, [])
    assert "changed by another command" in capsys.readouterr().err
    assert paths.spec.read_text() == "cpus: 1 # theirs\n"
    assert paths.spec_draft.read_text() == "cpus: 1 # mine\n"


def test_a_draft_that_was_left_does_not_undo_what_was_changed_since(edit, paths, capsys):
    """By `hostvm set`, say: it is told, and undone only by who says so."""
    assert edit("cpus: 1\ncolour: red\n") == (1, [])
    paths.spec.write_text("# mine\ncpus: 8\n")
    assert edit("cpus: 1\nmemory: 2GiB\n") == (1, [])
    told = capsys.readouterr().err
    assert f"going on with what was written before and not saved, {paths.spec_draft}" in told, "though quiet"
    assert "changed by another command" in told
    assert "-cpus: 1\n  +cpus: 8\n" in told
    assert (paths.spec.read_text(), paths.spec_draft.read_text()) == ("# mine\ncpus: 8\n", "cpus: 1\nmemory: 2GiB\n")
    assert edit(None) == (1, []), "asked again as long as it is so"
    assert edit(None, answer=True) == (0, ["cpus: 1\nmemory: 2GiB\n"])
    assert edit(None) == (0, ["cpus: 1\nmemory: 2GiB\n"]), "nothing is left"


def test_an_edit_beside_another_one_is_told_of_it_and_touches_nothing(edit, paths, monkeypatch):
    monkeypatch.setattr(settings.sys, "argv", ["hostvm", "edit", "ci"])
    told = []

    def meanwhile(editor, _):
        monkeypatch.setattr(settings, "_run_editor", real)
        paths.spec_draft.write_text("cpus: 2\n")
        with pytest.raises(MachineError, match="machine ci is being edited already") as caught:
            edit("cpus: 7\n")
        told.append(caught.value)

    real = settings._run_editor
    monkeypatch.setattr(settings, "_run_editor", meanwhile)
    assert edit(None) == (0, ["cpus: 2\n"])
    assert told[0].details == f"process {os.getpid()}: edit ci holds it"
    assert "hostvm set ci KEY=VALUE" in told[0].resolution
    assert edit("cpus: 1\n") == (0, ["cpus: 2\n", "cpus: 1\n"]), "it is free again"


def test_a_machine_that_was_removed_while_its_editor_was_open_is_told_as_gone(edit, paths, monkeypatch):
    monkeypatch.setattr(settings, "_run_editor", lambda *_: shutil.rmtree(paths.folder))
    with pytest.raises(MachineError, match="there is no machine called ci"):
        edit(None)


def test_of_an_edit_that_was_killed_nothing_is_used_that_nobody_wrote(edit, paths, monkeypatch, capsys):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(settings, "_run_editor", killed)
        with pytest.raises(KeyboardInterrupt):
            edit(None)
    assert paths.spec_draft.exists()
    paths.spec.write_text("cpus: 8\n")
    assert edit(None) == (0, [])
    assert "going on" not in capsys.readouterr().err
    assert paths.spec.read_text() == "cpus: 8\n"
    assert [path.name for path in paths.folder.iterdir()] == ["machine.yaml"]


def test_what_a_killed_edit_had_written_is_gone_on_with(edit, paths, monkeypatch):
    def killed(*_):
        paths.spec_draft.write_text("cpus: 2\n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(settings, "_run_editor", killed)
        with pytest.raises(KeyboardInterrupt):
            edit(None)
    assert edit(None) == (0, ["cpus: 2\n"])


def test_a_draft_of_a_former_hostvm_is_gone_on_with(edit, paths):
    paths.spec_draft.write_text("cpus: 2\n")
    assert edit(None) == (0, ["cpus: 2\n"])


def test_a_broken_file_can_be_mended(edit, paths):
    paths.spec.write_bytes(b"cpus: [\xff\n")
    assert edit("cpus: 1\n") == (0, ["cpus: 1\n"])


def test_without_a_terminal_there_is_no_editor(paths, monkeypatch):
    monkeypatch.setattr(settings, "on_terminal", lambda: False)
    with pytest.raises(UsageError, match="terminal") as caught:
        settings.edit(argparse.Namespace(name="ci", machine="", quiet=True, json=False, restart=False))
    assert not isinstance(caught.value, SpecError)
    assert "hostvm set ci" in caught.value.resolution
