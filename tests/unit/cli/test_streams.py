"""Standard streams as who begins hostvm may leave them: closed, or of letters that a name has not."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys

import pytest

from cli.api import Machine
from cli.commands import look
from cli.main import main
from hostvm.paths import MachinePaths
from hostvm.platform import login


@contextlib.contextmanager
def closed(name):
    """One of them is: Python has None for it then."""
    before = getattr(sys, name)
    setattr(sys, name, None)
    try:
        yield
    finally:
        if stream := getattr(sys, name):
            stream.close()
        setattr(sys, name, before)


def test_a_closed_input_is_no_terminal(capsys, monkeypatch):
    MachinePaths.of("box").folder.mkdir(parents=True)
    removed = []
    monkeypatch.setattr(Machine, "remove", lambda machine, **_: removed.append(machine.name))
    monkeypatch.setattr(login, "is_installed", lambda _: False)
    with closed("stdin"):
        assert main(["rm", "box"]) == 0
    assert removed == ["box"], "nobody can be asked"
    with closed("stdin"):
        assert main(["edit", "box"]) == 2
    assert "edit needs a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ls"], ["ls", "--json"], ["completion", "bash"], ["config", "schema"]])
def test_nor_is_a_closed_output_a_defect(capsys, words):
    with closed("stdout"):
        assert main(words) == 0
    assert capsys.readouterr().err == ""


def test_nor_is_a_closed_error_output(capsys):
    with closed("stderr"):
        assert main(["status", "none"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="file names are text there")
@pytest.mark.parametrize("words", [["env", "box"], ["env", "--json", "box"]])
def test_bytes_that_are_no_text_come_out_as_they_are(monkeypatch, words):
    MachinePaths.of("box").folder.mkdir(parents=True)
    monkeypatch.setattr(look, "docker_host", lambda _: "unix:///run/\udcff.sock")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8", errors="strict"))
    assert main(words) == 0
    text = written.getvalue()
    if "--json" in words:
        assert json.loads(text)["DOCKER_HOST"] == "unix:///run/\udcff.sock"
    else:
        assert b"unix:///run/\xff.sock" in text


@pytest.mark.skipif(sys.platform == "win32", reason="file names are text there")
@pytest.mark.parametrize(("encoding", "errors"), [("latin-1", "strict"), ("ascii", "surrogateescape")])
def test_letters_that_the_output_lacks_are_no_defect(monkeypatch, capsys, encoding, errors):
    MachinePaths.of("box").folder.mkdir(parents=True)
    monkeypatch.setattr(look, "docker_host", lambda _: "unix:///\u2192\udcff\u0142.sock")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors=errors))
    assert main(["env", "box"]) == 0
    assert b"unix:///\\u2192\xff\\u0142.sock" in written.getvalue()
    assert "defect" not in capsys.readouterr().err


class Full(io.StringIO):
    """A standard error that takes nothing: a full disk, a reader that has left."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def write(self, _):
        raise self.fault


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError()])
@pytest.mark.parametrize(
    ("words", "status"), [(["start", "--colour"], 2), (["status", "none"], 1), (["docker", "-m", "Bad N", "ps"], 125)]
)
def test_a_failure_that_cannot_be_told_keeps_its_status(monkeypatch, fault, words, status):
    monkeypatch.setattr(sys, "stderr", Full(fault))
    assert main(words) == status
