"""`kill -9` in the midst of `snapshot create` and `snapshot restore`, by rounds, as in test_kills.py.

On a machine of its own: its disk stands on one layer more with each snapshot.
"""

from __future__ import annotations

import json
import os

import pytest
from machines import hostvm, small_machine, succeed
from rounds import begin, finish, one_round, rounds_of
from victims import INSIDE

ROUNDS = rounds_of(5)

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(600 + 300 * ROUNDS)]


@pytest.fixture(scope="module")
def faulty():
    with small_machine(f"faults-{os.getpid()}-s", "--driver", "qemu", "--names", "off") as made:
        yield made


def snapshots(machine) -> list[str]:
    return [one["name"] for one in json.loads(machine.hostvm("snapshot", "ls", "--json"))]


@pytest.mark.parametrize("victim", ["command", "agent", "qemu", *INSIDE])
def test_killed_while_a_snapshot_is_made(machine, ledger, record, victim, tmp_path):
    """It is there, whole, or it is not; and the next one is made."""
    rounds = record(f"{victim} killed in the midst of `snapshot create`")

    def prepare():
        if "struck" in snapshots(machine):
            machine.hostvm("snapshot", "rm", "struck")
        return begin(machine, ["snapshot", "create", "-m", machine.name, "struck"], tmp_path / "said", victim)

    for _ in range(ROUNDS):
        one_round(machine, ledger, rounds, victim, 2.5, prepare)
    if "struck" in snapshots(machine):
        machine.hostvm("snapshot", "restore", "--force", "struck")
        assert ledger.acknowledged(), "what was made in spite of the kill is one to go back to"
        machine.hostvm("snapshot", "rm", "struck")
    machine.hostvm("snapshot", "create", "after")
    assert snapshots(machine) == ["after"]
    machine.hostvm("snapshot", "rm", "after")
    finish(machine, rounds, victim, tmp_path)


@pytest.mark.parametrize("victim", ["command", "agent", "qemu", *INSIDE])
def test_killed_while_a_snapshot_is_restored(machine, ledger, record, victim, tmp_path):
    """What was acknowledged before the snapshot is there, and the same command does it the next time."""
    rounds = record(f"{victim} killed in the midst of `snapshot restore`")
    keeps = ledger.acknowledged()
    machine.hostvm("snapshot", "create", "base")
    words = ["snapshot", "restore", "--force", "-m", machine.name, "base"]

    def prepare():
        return begin(machine, words, tmp_path / "said", victim)

    for _ in range(ROUNDS):
        one_round(machine, ledger, rounds, victim, 2.5, prepare, keeps=keeps)
    succeed(hostvm(*words))
    assert ledger.lost(keeps) == 0
    machine.hostvm("snapshot", "rm", "base")
    finish(machine, rounds, victim, tmp_path)
