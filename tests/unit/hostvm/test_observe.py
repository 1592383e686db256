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
