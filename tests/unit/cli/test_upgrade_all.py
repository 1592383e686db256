"""`hostvm upgrade --all`: which machines that is."""

from __future__ import annotations

import json

import pytest

from cli.commands import upgrade
from cli.main import main
from hostvm.paths import MachinePaths
from hostvm.state import MachineState, save_state

OURS = [4711, 1.0]


@pytest.fixture(autouse=True)
def machines(monkeypatch):
    for name, owner in (("box", None), ("ci", None), ("tmp-0123456789ab", OURS)):
        paths = MachinePaths.of(name)
        paths.folder.mkdir(parents=True)
        save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", owner=owner))
    (MachinePaths.of("broken").folder).mkdir()
    current = {"status": "current", "before": "sha256:0", "after": "sha256:0"}

    def work(paths, *_):
        upgrade.load_state(paths)
        return current

    monkeypatch.setattr(upgrade, "_upgrade", work)
    monkeypatch.setattr(upgrade, "_check", work)


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_machine_that_goes_with_another_process_is_left_alone(capsys, check):
    assert main(["upgrade", "--all", "--json", *check]) == 1, "the broken one"
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("box", "current"),
        ("broken", "failed"),
        ("ci", "current"),
    ]


def test_but_not_when_it_is_named(capsys):
    assert main(["upgrade", "tmp-0123456789ab", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tmp-0123456789ab"
