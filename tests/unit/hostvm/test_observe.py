"""What `hostvm status` says of what a machine's agent tells."""

from __future__ import annotations

import pytest

from hostvm.machines import observe
from hostvm.machines.observe import Observation
from hostvm.paths import MachinePaths


@pytest.mark.parametrize("why", ["none of arm64: the mirror is not reached", ""])
def test_an_emulator_that_could_not_be_brought_is_told(why):
    seen = Observation(MachinePaths.of("box"), agent={"services": {"emulators": {"arch": "arm64", "why": why}}})
    assert dict(seen.lines()).get("emulators", "") == why


def test_a_machine_that_goes_while_all_are_looked_at_is_no_broken_one(monkeypatch):
    MachinePaths.of("box").folder.mkdir(parents=True)
    monkeypatch.setattr(observe, "machine_names", lambda: ["box", "tmp-0123456789ab"])
    assert [(seen.name, seen.status) for seen in observe.observe_all()] == [("box", "broken")]


@pytest.mark.parametrize(("status", "told"), [("starting", True), ("running", False), ("paused", False)])
def test_a_guest_whose_ssh_server_is_silent_is_told_with_what_helps(status, told):
    """One that is paused has none that could answer."""
    seen = Observation(MachinePaths.of("box"), status, agent={"silent_since": "2026-12-01 12:00:00"})
    words = "it runs, but its ssh server has not answered since 2026-12-01 12:00:00"
    assert seen.silent == (words if told else "")
    assert dict(seen.lines()).get("guest") == (f"{words}: hostvm restart box" if told else None)
