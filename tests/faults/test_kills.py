"""`kill -9` of every part, at rest and in the midst of the machine's own commands, and power cuts, by rounds.

Each states the same: every number that was acknowledged is there afterwards, the next command heals the machine or
says what to type, nothing is left of what was killed, and there is no traceback. A round in whose moment nothing was to
be hit draws another one; where most rounds miss all the same, the test fails. After kills of QEMU the data disk is
looked at, too.

One agent killed in the midst of a copy and a run, and a connection cut by a firewall, are in tests/e2e/test_faults.py;
QEMU and the command killed in mid-suspend are in tests/e2e/test_suspend.py.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from machines import hostvm, succeed
from rounds import MOMENTS, audit, begin, finish, heal, one_round, rounds_of
from victims import INSIDE, Blow, kill_at_rest, phase_of, qemu_of

from hostvm import process_id

ROUNDS, CUTS = rounds_of(5), rounds_of(30)

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(600 + 300 * max(ROUNDS, CUTS // 2))]

VERBS = {"start": (9.0, 3.0), "stop": (1.2, 0.6), "suspend": (1.0, 0.25), "resume": (1.0, 0.0)}
"""Seconds of a command in which something of this computer, and something of the guest, is killed. The guest has 0.3 s
of a suspend, from the machine's lock to its agent's end; then it stands still."""


@pytest.mark.parametrize("victim", ["agent", "qemu", *INSIDE])
def test_killed_at_rest(machine, ledger_and_rows, record, victim, tmp_path):
    rounds = record(f"{victim} killed while a container writes")
    for _ in range(ROUNDS):
        with ledger_and_rows.busy(3) as told:
            rounds.blows.append(kill_at_rest(machine.name, victim))
            acknowledged = told()
        heal(machine, ledger_and_rows, rounds, "-m", machine.name, "docker", "ps")
        audit(ledger_and_rows, rounds, acknowledged)
    finish(machine, rounds, victim, tmp_path)


@pytest.mark.parametrize("victim", ["command", "agent", "qemu", *INSIDE])
@pytest.mark.parametrize("verb", VERBS)
def test_killed_in_the_midst_of(machine, ledger, record, verb, victim, tmp_path):
    rounds = record(f"{victim} killed in the midst of `{verb}`")

    def prepare():
        if verb == "start":
            succeed(hostvm("stop", machine.name))
        if verb == "resume":
            succeed(hostvm("suspend", machine.name))
        return begin(machine, [verb, machine.name], tmp_path / "said", victim)

    for _ in range(ROUNDS):
        one_round(machine, ledger, rounds, victim, VERBS[verb][victim in INSIDE], prepare)
    finish(machine, rounds, victim, tmp_path)


def test_power_is_cut_while_a_container_writes(machine, ledger_and_rows, record, tmp_path):
    """The host's own power: QEMU is gone from one moment to the next, with its caches, in the midst of an fsync."""
    options = [word for word in process_id.command_of(qemu_of(machine.name)) if "data.qcow2" in word]
    assert options, "its disk is in QEMU's command line"
    assert not any("cache." in word for word in options), "QEMU's default, which is writeback"
    rounds = record("power cut while a container writes by fsync")
    for _ in range(CUTS):
        with ledger_and_rows.busy(5) as told:
            time.sleep(MOMENTS.uniform(0.0, 0.5))  # anywhere in the midst of a write
            before = phase_of(machine.name)
            os.kill(qemu_of(machine.name), signal.SIGKILL)
            acknowledged = told()
        rounds.blows.append(Blow(True, before))
        heal(machine, ledger_and_rows, rounds)
        audit(ledger_and_rows, rounds, acknowledged)
    finish(machine, rounds, "qemu", tmp_path)
