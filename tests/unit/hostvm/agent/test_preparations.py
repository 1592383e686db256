"""What the agent does beside the engine's start; whole lives of it are in tests/agent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hostvm.agent import life
from hostvm.agent.parts import Parts


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepares with a console of this text; gives what was prepared and what was logged."""
    monkeypatch.setattr(life, "_DATA_SECONDS", 0.2)

    def run(text, *, woken=False):
        console = tmp_path / "console.log"
        console.write_text(text)
        done, logged = [], []
        parts = Parts(preparations=(done.append,), services=(), checks=(), provision=lambda *_: None)
        config = SimpleNamespace(name="box", console=str(console), woken=woken)
        connection = SimpleNamespace(alive=True, warm_up=lambda: logged.append("true"))
        life.Life(config, parts, lambda: True, SimpleNamespace(log=logged.append))._prepare(connection)
        return done == [connection], logged

    return run


def test_preparations_follow_the_data_disk(prepare):
    assert prepare("hostvm-guest: mark services 3.1\n") == (True, ["true"])


def test_a_guest_that_was_woken_is_not_made_to_start_a_program_for_nothing(prepare):
    """The clock's, which is awaited, is its first."""
    assert prepare("hostvm-guest: mark services 3.1\n", woken=True) == (True, [])


def test_a_data_disk_that_never_comes_is_told_and_they_are_done_all_the_same(prepare):
    told = ["true", "warning: the data disk is not mounted after 0 s"]
    assert prepare("hostvm-guest: mark root 0.1\n") == (True, told)
