"""`kill -9` of libvirt's own daemon, at rest and in the midst of the machine's commands, in the manner of tests/faults.

Each round states the same: lines that were written to the machine's disk and synced are there afterwards, the next
command heals the machine or says what to type, one QEMU is left, and there is no traceback. As root this is run by
test_libvirt_as_user.py, for a user that it makes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from as_typed import hostvm, succeed  # a helper beside this file

pytest.importorskip("libvirt", reason="libvirt-python is not installed: make setup")

pytestmark = [
    pytest.mark.vm,
    pytest.mark.libvirt,
    pytest.mark.slow,
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() == 0, reason="root has no session; see test_libvirt_as_user.py"
    ),
]
NAME = "killed"
DAEMONS = ("libvirtd", "virtqemud")
LEDGER = "/var/lib/hostvm/ledger"  # on the data disk
ROUNDS, TRIES = 2, 4
MOMENTS = random.Random(5)  # the same moments in each run
SNAPSHOT = "struck"
CREATE, RESTORE = ("snapshot", "create", "-m", NAME, SNAPSHOT), ("snapshot", "restore", "--force", "-m", NAME, SNAPSHOT)
VERBS = {
    "start": (("start", NAME), 5.0),
    "stop": (("stop", NAME), 2.0),
    "suspend": (("suspend", NAME), 2.0),
    "resume": (("resume", NAME), 2.0),
    "snapshot create": (CREATE, 2.5),
    "snapshot restore": (RESTORE, 2.5),
}
"""The words of a command, and seconds of it, from when it has the machine's lock, in which the daemon is killed."""

written: list[str] = []


@pytest.fixture(scope="module")
def lab(image):
    """The machine that everything is done to, running."""
    size = ("--cpus", "2", "--memory", "1GiB", "--mount", "none", "--image", image.digest)
    succeed("start", NAME, *size, "--driver", "libvirt", "--names", "off")
    yield NAME
    succeed("rm", "--force", NAME)
    assert qemus() == []


def eventually(look, what: str, seconds: float = 30.0):
    """The first true value of `look()`; a test fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.05)
    return found


def mine(*attributes: str) -> list[psutil.Process]:
    found = psutil.process_iter(["name", "cmdline", "uids", "status", *attributes])
    return [
        one
        for one in found
        if one.info["uids"] and one.info["uids"].real == os.getuid() and one.info["status"] != psutil.STATUS_ZOMBIE
    ]


def qemus() -> list[int]:
    """What emulates the machine, in libvirt's words."""
    name = f"guest=hostvm-{NAME}"
    return [one.pid for one in mine() if any(name in word.split(",") for word in one.info["cmdline"] or ())]


def kill_daemon() -> bool:
    """Whether it lived."""
    found = [one for one in mine() if one.info["name"] in DAEMONS]
    for one in found:
        one.kill()
    assert psutil.wait_procs(found, timeout=10)[1] == []
    return bool(found)


def write() -> None:
    """One more line, acknowledged once it is on the disk."""
    line = str(len(written) + 1)
    script = f"echo {line} | dd of={LEDGER} oflag=append conv=notrunc,fsync 2> /dev/null"
    succeed("-m", NAME, "shell", "--", "sh", "-c", script)
    written.append(line)


def heal(restored: list[str] | None = None) -> float:
    """By the command that comes next; seconds until the machine is whole, with all that was acknowledged.

    :param restored: the lines of a snapshot to which it may have gone back.
    """
    begun = time.monotonic()
    done = hostvm("start", NAME)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert "->" in done.stderr, f"it says what to type: {done.stderr}"
        succeed("restart", NAME)
    seconds = time.monotonic() - begun
    facts = json.loads(succeed("status", NAME, "--json"))
    assert (facts["status"], facts["driver"], facts["agent"]["ready"]) == ("running", "libvirt", True), facts
    eventually(lambda: len(qemus()) == 1, "one QEMU is left")
    assert succeed("-m", NAME, "docker", "version", "--format", "{{.Server.Os}}") == "linux\n"
    there = succeed("-m", NAME, "shell", "--", "cat", LEDGER).split()
    assert there in (written, restored or written), (there, written, restored)
    written[:] = there
    return seconds


def one_blow(words: tuple[str, ...], longest: float, said: Path) -> tuple[bool, bool]:
    """Kill the daemon in the midst of a command: whether that hit, and whether the command was over before."""
    holder = Path(os.environ["HOSTVM_HOME"], "locks", f"{NAME}.holder")
    with said.open("w") as file:
        command = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:

        def works() -> bool:
            return holder.is_file() and holder.read_text().startswith(f"process {command.pid}:")

        eventually(lambda: works() or command.poll() is not None, "it has the machine's lock")
        time.sleep(MOMENTS.uniform(0.05, longest))  # the moment is what is tried
        late = command.poll() is not None
        hit = kill_daemon() and not late
        command.wait(300)
    finally:
        command.kill()
        command.wait()
    assert "Traceback" not in said.read_text(), said.read_text()
    return hit, late


def test_killed_at_rest(lab):
    """The guest does not notice; whoever asks next has a new daemon, which knows the machine."""
    seconds = []
    for _ in range(ROUNDS):
        write()
        boot, before = succeed("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id"), qemus()
        assert kill_daemon(), "it lives as long as a machine does"
        write()  # by the agent, which needs no libvirt
        seconds.append(heal())
        assert succeed("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id") == boot
        assert qemus() == before
    tell("at rest", ROUNDS, ROUNDS, seconds, [])


def prepare(verb: str) -> list[str] | None:
    """What has to be so before the command; the lines to which it goes back, where it does that."""
    if verb == "start":
        succeed("stop", NAME)
    if verb == "resume":
        succeed("suspend", NAME)
    if verb.startswith("snapshot") and snapshots():
        succeed("snapshot", "rm", "-m", NAME, SNAPSHOT)
    if verb != "snapshot restore":
        return None
    succeed(*CREATE)
    there = written.copy()
    write()
    return there


def snapshots() -> list[str]:
    return [one["name"] for one in json.loads(succeed("snapshot", "ls", "-m", NAME, "--json"))]


@pytest.mark.parametrize("verb", VERBS)
def test_killed_in_the_midst_of(lab, tmp_path, verb):
    hits, seconds, told = 0, [], []
    for _ in range(ROUNDS):
        words, longest = VERBS[verb]
        for _ in range(TRIES):
            write()
            restored = prepare(verb)
            said = tmp_path / "said"
            hit, late = one_blow(words, longest, said)
            took = heal(restored)
            if hit:
                hits += 1
                seconds.append(took)
                told += [line for line in said.read_text().splitlines() if line.startswith("hostvm: ")][:1]
                break
            longest = max(0.1, longest / 2) if late else longest
    assert 2 * hits >= ROUNDS, f"{hits} of {ROUNDS} rounds hit"
    tell(f"in the midst of `{verb}`", ROUNDS, hits, seconds, told)


def tell(fault: str, rounds: int, hits: int, seconds: list[float], told: list[str]) -> None:
    """For docs/reliability.md."""
    took = [round(one, 1) for one in seconds]
    facts = {"fault": f"libvirt killed {fault}", "rounds": rounds, "hits": hits, "told": sorted(set(told))}
    sys.stdout.write(json.dumps({**facts, "seconds": took}) + "\n")  # pytest shows it with -rP
