"""What people see of long work: where it is, how long it took, and that it failed."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from cli.progress import PlainProgress, RichProgress


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture(params=["plain", "rich"])
def progress(request, out):
    if request.param == "plain":
        return PlainProgress(out)
    made = RichProgress()
    made._console = Console(file=out, highlight=False, width=200)
    return made


def lines(out):
    return re.sub(r"\d+\.\d s", "N s", out.getvalue()).splitlines()


def test_a_step_that_ends_tells_its_time(progress, out):
    with progress.step("start box"):
        pass
    assert lines(out) in (["start box: N s"], ["✓ start box N s"])


@pytest.mark.parametrize(("fault", "word"), [(ValueError(), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_a_step_that_fails_says_so_and_after_how_long(progress, out, fault, word):
    with pytest.raises(type(fault)), progress.step("start box"):
        raise fault
    assert lines(out) in ([f"start box: {word} after N s"], [f"✗ start box {word} after N s"])


def test_on_a_pipe_there_is_a_line_for_each_thing_that_a_step_is_at(out):
    progress = PlainProgress(out)
    with progress.step("start box"):
        progress.doing("waiting for ssh")
        assert lines(out) == ["start box: waiting for ssh"], "at once"
        with progress.step("inner"):
            progress.doing("one")
        progress.doing("waiting for the engine")
    progress.doing("alone")
    assert lines(out)[1:] == [
        "inner: one",
        "inner: N s",
        "start box: waiting for the engine",
        "start box: N s",
        "alone",
    ]


def test_on_a_terminal_it_stands_behind_the_spinner_and_leaves_no_line(monkeypatch):
    shown = io.StringIO()
    progress = RichProgress()
    progress._console = Console(file=shown, force_terminal=True, width=200)
    with progress.step("start box"):
        progress.doing("check 1 of 2: [disk]")
        progress._console._live_stack[0].refresh()
        assert "start box: check 1 of 2: [disk]" in shown.getvalue()
        assert "\n" not in shown.getvalue(), "the next one takes its place"
    progress.doing("alone")


def test_on_a_narrow_terminal_a_note_is_one_line_and_as_it_was_written(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = "upgrade with: hostvm upgrade a-machine --image registry.example/team/docker:ok:v1"
    progress = RichProgress()
    progress.note(text)
    with progress.step("pull :ok:"):
        pass
    assert text + "\n" in shown.getvalue()
    assert "pull :ok:" in shown.getvalue()
