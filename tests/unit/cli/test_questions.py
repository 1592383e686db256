"""Who is asked before something is deleted: at a real terminal, and without one."""

from __future__ import annotations

import io
import os
import sys

import pytest

from cli.commands import registry
from cli.commands.common import confirm, offer
from cli.main import main
from hostvm.errors import UsageError
from hostvm.paths import MachinePaths

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its terminals cannot be made so")


@pytest.fixture
def terminal(monkeypatch):
    """Standard input is one; gives the side where a person types and reads, and the program's."""
    person, programs = os.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(programs, "r"))
    yield person, programs
    os.close(person)


@pytest.mark.parametrize(("typed", "answer"), [(b"y\n", True), (b"Yes\n", True), (b"\n", False), (b"n\n", False)])
def test_a_person_is_asked(terminal, monkeypatch, typed, answer):
    person, programs = terminal
    for ask in (confirm, offer):
        monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(programs), "w"))
        os.write(person, typed)
        assert ask("Really?") is answer
        sys.stderr.close()
    assert b"Really? [y/N]" in os.read(person, 1000)


def test_nobody_is_asked_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert confirm("Really?") is True, "scripts say what they mean"
    assert offer("Once more?") is False


def test_nothing_is_deleted_when_the_question_is_not_seen(terminal, capsys):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    assert main(["rm", "box"]) == UsageError.exit_status
    told = capsys.readouterr().err
    assert "Delete machine box" in told
    assert "--force" in told
    assert paths.folder.is_dir()


def test_nor_are_a_registrys_images(terminal, capsys, monkeypatch):
    MachinePaths.of("box").folder.mkdir(parents=True)
    monkeypatch.setattr(registry, "request", lambda *_, **__: pytest.fail("it was deleted"))
    assert main(["registry", "rm", "box"]) == UsageError.exit_status
    assert "--force" in capsys.readouterr().err
