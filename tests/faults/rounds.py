"""Rounds of kills: the kill itself, again until it hits, and what must hold after it."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING

from machines import eventually, folders_of, hostvm, run, succeed  # a helper of the e2e tests
from victims import INSIDE, Command, Trigger, find, is_alone, phase_of, strike, wait_for_lock

from hostvm.qemu_binary import find_qemu_img

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Record
    from machines import Machine
    from writers import Writers

MOMENTS = random.Random(5)  # the same moments in each run
SHORTEST = 0.05
TRIES = 4
"""Moments drawn in one round until one hits."""

_LEAKS_ONLY = 3
"""How qemu-img check ends for clusters that waste room and are harmless otherwise, as a power cut may leave them."""


def rounds_of(default: int) -> int:
    return int(os.environ.get("HOSTVM_FAULT_ROUNDS") or default)


def begin(machine: Machine, words: list[str], said: Path, victim: str) -> Command:
    """A command that works on the machine; it has the machine's lock by now.

    :param victim: who is to be killed meanwhile; in a guest that runs, that is set up before.
    """
    trigger = Trigger(machine.name, victim) if victim in INSIDE and find(machine.name, "agent") else None
    command = Command(words, said)
    command.trigger = trigger
    wait_for_lock(machine.name, command)
    return command


def one_round(
    machine: Machine,
    writers: Writers,
    record: Record,
    victim: str,
    longest: float,
    prepare: Callable[[], Command],
    *,
    look: Callable[[Command], str] | None = None,
    keeps: list[int] | None = None,
) -> None:
    """Kill the victim in the midst of a command; when the moment is missed, another one is drawn.

    After each kill, missed or not, the machine is healed and audited. What counts is the last one.

    :param longest: seconds; the moment is drawn up to it, and sooner once the command was over before.
    :param prepare: begins the command.
    :param look: tells how far the command is; by default how far the machine is.
    :param keeps: what must be there afterwards; by default all that was acknowledged when the command began.
    """
    look = look or (lambda _: phase_of(machine.name))
    for tries in range(1, TRIES + 1):
        acknowledged = writers.acknowledged() if keeps is None else keeps
        command = prepare()
        after = MOMENTS.uniform(min(SHORTEST, longest), longest)
        try:
            blow = strike(machine.name, victim, command, after, look)
        finally:
            said = command.end()
        assert "Traceback" not in said, said
        counts = record if blow.hit or tries == TRIES else record.uncounted()
        counts.blows.append(blow)
        counts.say(said)
        heal(machine, writers, counts)
        audit(writers, counts, acknowledged)
        if blow.hit:
            return
        longest = after if blow.late else longest


def heal(machine: Machine, writers: Writers, record: Record, *first: str) -> None:
    """Let hostvm heal the machine by the command that comes next: `start`, unless another one is named.

    Then it is running, with one QEMU, one agent and nothing else, and what wrote writes again.
    """
    with record.healing():
        done = hostvm(*(first or ("start", machine.name)))
        assert "Traceback" not in done.err, done
        if done.status != 0:
            record.say(done.err)
            if not first:
                succeed(hostvm("restart", machine.name))
        eventually(writers.run, "what wrote writes again", 90)
    facts = json.loads(hostvm("status", machine.name, "--json").out)
    assert (facts["status"], (facts["agent"] or {}).get("ready")) == ("running", True), facts
    eventually(lambda: is_alone(machine.name), "nothing is left of before", 20)
    console = folders_of(machine.name)[0] / "console.log"
    record.repaired = record.repaired or "mark data-repaired" in console.read_text(errors="replace")


def audit(writers: Writers, record: Record, acknowledged: list[int]) -> None:
    lost = writers.lost(acknowledged)
    record.acknowledged = max(record.acknowledged, sum(acknowledged))  # numbers go on from round to round
    record.lost += lost
    assert lost == 0, f"{lost} of {acknowledged} acknowledged writes are gone"


def finish(machine: Machine, record: Record, victim: str, folder: Path) -> None:
    """After the last round: were they rounds at all, and is the disk sound?

    :param folder: for a copy of the disk.
    """
    if victim == "qemu":
        record.disk = check_disk(machine, folder) + record.repaired * ", repaired at boot"
    record.check_hits()


def check_disk(machine: Machine, folder: Path) -> str:
    """Stop the machine, look at its qcow2 and at the ext4 file system in it, and start it again.

    The last boot has replayed the journal, and repaired what was marked as wrong; so nothing may be wrong now.
    """
    stopped = hostvm("stop", machine.name)
    succeed(stopped)
    assert "cutting its power" not in stopped.err, stopped
    disk, raw = folders_of(machine.name)[0] / "data.qcow2", folder / "data.raw"
    qemu_img = str(find_qemu_img())
    checked = run(qemu_img, "check", "-f", "qcow2", "--output=json", str(disk))
    assert checked.status in (0, _LEAKS_ONLY), checked
    leaks = json.loads(checked.out).get("leaks", 0)
    try:
        succeed(run(qemu_img, "convert", "-f", "qcow2", "-O", "raw", str(disk), str(raw)))  # sparse
        looked = run("/usr/sbin/e2fsck", "-f", "-n", str(raw))
    finally:
        raw.unlink(missing_ok=True)
    assert looked.status == 0, looked
    succeed(hostvm("start", machine.name))
    return f"sound, {leaks} leaked clusters" if leaks else "sound"
