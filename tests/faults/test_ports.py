"""The port that leads to a guest's sshd becomes another program's between its choice and its use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from machines import eventually, folders_of, hostvm, run, succeed
from rounds import audit

from hostvm.paths import MachinePaths
from hostvm.state import load_state

pytestmark = [pytest.mark.vm, pytest.mark.faults]

HERE = Path(__file__).parent


def port_of(machine) -> int:
    return load_state(MachinePaths(machine.name, *folders_of(machine.name))).ssh_port


@pytest.mark.parametrize(("before", "command"), [("stop", "start"), ("suspend", "resume")])
def test_another_port_is_taken(machine, ledger, record, before, command):
    rounds = record(f"ssh port taken between choice and use, in `{command}`")
    port, boot, acknowledged = port_of(machine), machine.boot_id(), ledger.acknowledged()
    succeed(hostvm(before, machine.name))
    with rounds.healing():
        env = {"PYTHONPATH": str(HERE.parent.parent), "HOSTVM_CLIENT": "guest"}
        done = run(sys.executable, str(HERE / "late_port.py"), command, machine.name, env=env)
        succeed(done)
        eventually(ledger.run, "what wrote writes again", 90)
    assert port_of(machine) not in (0, port)
    told = f"port {port} is taken by another program; machine {machine.name} now has {port_of(machine)}"
    assert done.err.count(told) == 1, done
    rounds.told.append("port PORT is taken by another program; machine NAME now has OTHER")
    assert (machine.boot_id() == boot) == (command == "resume")
    audit(ledger, rounds, acknowledged)
