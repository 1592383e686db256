"""`kill -9` of every part, at rest and in the midst of work, and power cuts, by rounds.

Each states the same: every number that the ledger acknowledged by fsync is there afterwards, the next command heals the
machine or says what to type, and there is no traceback. One agent killed in the midst of a copy and a run, and a
connection cut by a firewall, are in tests/e2e/test_faults.py; QEMU and the command killed in mid-suspend are in
tests/e2e/test_suspend.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
from machines import HOSTVM, eventually, folders_of, hostvm, succeed

from hostvm import process

pytestmark = [pytest.mark.vm, pytest.mark.faults]

ROUNDS = int(os.environ.get("HOSTVM_FAULT_ROUNDS", "5"))
MOMENTS = random.Random(5)  # the same moments in each run
DOCKERFILE = "FROM busybox\nARG ROUND\nRUN i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i > /$i; sleep 0.1; done\n"


def qemu_of(machine) -> int:
    return int((folders_of(machine.name)[1] / "qemu.pid").read_text())


def agent_of(machine) -> int:
    return int(json.loads((folders_of(machine.name)[1] / "agent.json").read_text())["process"][0])


def kill(machine, victim: str) -> None:
    """`kill -9`; one that is not there (yet, or any more) is as good as killed."""
    if victim in ("dockerd", "containerd"):
        hostvm("-m", machine.name, "shell", "--", "sh", "-c", f"kill -9 $(pidof {victim})")
        return
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = process.identify({"qemu": qemu_of, "agent": agent_of}[victim](machine))
        if found is not None:
            os.kill(found.pid, signal.SIGKILL)
            process.wait_gone(found, 10)


def runs(machine) -> bool:
    done = hostvm("-m", machine.name, "docker", "inspect", "-f", "{{.State.Running}}", "ledger")
    return done.status == 0 and done.out.strip() == "true"


def acknowledged_by(ledger) -> int:
    with ledger.read() as told:
        eventually(told, "writes are acknowledged", 60)
        return told()


def heal(machine, rounds, *first: str) -> None:
    """Let hostvm heal the machine by the command that comes next: `start`, unless another one is named."""
    with rounds.healing():
        done = hostvm(*(first or ("start", machine.name)))
        assert "Traceback" not in done.err, done
        if done.status != 0:
            rounds.say(done.err)
            if not first:
                succeed(hostvm("restart", machine.name))
        eventually(lambda: runs(machine), "the ledger is written again", 90)


def audit(ledger, rounds, acknowledged: int) -> None:
    lost = ledger.check(acknowledged)
    rounds.acknowledged += acknowledged
    rounds.lost += lost
    assert lost == 0, f"{lost} of {acknowledged} acknowledged writes are gone"


@pytest.mark.parametrize("victim", ["agent", "qemu", "dockerd", "containerd"])
def test_killed_at_rest(machine, ledger, record, victim):
    rounds = record(f"{victim} killed while a container writes")
    for _ in range(ROUNDS):
        with ledger.read() as told:
            begun = eventually(told, "writes are acknowledged", 60)
            eventually(lambda begun=begun, told=told: told() > begun + 3, "more of them", 60)
            kill(machine, victim)
            acknowledged = told()
        heal(machine, rounds, "-m", machine.name, "docker", "ps")
        audit(ledger, rounds, acknowledged)


@pytest.mark.parametrize("victim", ["command", "agent", "qemu"])
@pytest.mark.parametrize(("verb", "longest"), [("start", 9.0), ("stop", 1.2), ("suspend", 1.0), ("resume", 1.0)])
def test_killed_in_the_midst_of(machine, ledger, record, verb, longest, victim):
    rounds = record(f"{victim} killed in the midst of `{verb}`")
    for _ in range(ROUNDS):
        acknowledged = acknowledged_by(ledger)
        if verb == "start":
            succeed(hostvm("stop", machine.name))
        if verb == "resume":
            succeed(hostvm("suspend", machine.name))
        command = subprocess.Popen([HOSTVM, verb, machine.name], stderr=subprocess.PIPE, text=True)
        time.sleep(MOMENTS.uniform(0.05, longest))  # the moment is what is tried
        if victim == "command":
            command.kill()
        else:
            kill(machine, victim)
        said = command.communicate(timeout=240)[1]
        assert "Traceback" not in said, said
        rounds.say(said)
        heal(machine, rounds)
        audit(ledger, rounds, acknowledged)


def test_power_is_cut_while_a_container_writes(machine, ledger, record):
    """The host's own power: QEMU is gone from one moment to the next, with its caches, in the midst of an fsync."""
    rounds = record("power cut while a container writes by fsync")
    for _ in range(2 * ROUNDS):
        with ledger.read() as told:
            begun = eventually(told, "writes are acknowledged", 60)
            eventually(lambda begun=begun, told=told: told() > begun + 5, "more of them", 60)
            time.sleep(MOMENTS.uniform(0.0, 0.5))  # anywhere in the midst of a write
            os.kill(qemu_of(machine), signal.SIGKILL)
            acknowledged = told()
        heal(machine, rounds)
        audit(ledger, rounds, acknowledged)


@pytest.mark.parametrize("victim", ["agent", "qemu", "dockerd", "containerd"])
def test_killed_in_the_midst_of_a_build(machine, ledger, record, victim, tmp_path):
    rounds = record(f"{victim} killed in the midst of `docker build`")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    for number in range(ROUNDS):
        acknowledged = acknowledged_by(ledger)
        words = ["docker", "build", "--build-arg", f"ROUND={victim}{number}", "-t", "built", str(tmp_path)]
        command = subprocess.Popen(
            [HOSTVM, "-m", machine.name, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOSTVM_CLIENT": "guest"},
        )
        time.sleep(MOMENTS.uniform(0.5, 5.0))  # the moment is what is tried
        kill(machine, victim)
        said = command.communicate(timeout=240)[1]
        assert "Traceback" not in said, said
        rounds.say(said)
        heal(machine, rounds)
        audit(ledger, rounds, acknowledged)
        succeed(hostvm("-m", machine.name, *words))
