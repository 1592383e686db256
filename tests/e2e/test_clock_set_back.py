"""This computer's clock is set back by a day, under a machine that runs: nothing waits until that day is over again.

Not the computer's own: commands, the agent and what listens while the machine sleeps are given another time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time

import docker
import off_clock
import pytest
from machines import eventually, folders_of, run, small_machine, succeed

from hostvm.agent.client import run_in_guest
from hostvm.agent.spawn import sleeper_status

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="QEMU's states are not saved on Windows"),
]

DAY = 86400.0
NAME = f"e2e-{os.getpid()}-day"
MOST = 180.0
"""Seconds for one command; a loaded computer takes a tenth of it."""


class Typed:
    """`hostvm` for which the clock is off, with all that it starts."""

    def __init__(self, folder) -> None:
        self.python, self._file = off_clock.write_python(folder)
        self.off = 0.0

    def put(self, seconds: float) -> None:
        self.off = seconds
        off_clock.put(self._file, seconds)

    def words(self, *words: str) -> list[str]:
        return [str(self.python), "-P", "-m", "cli.main", *words]

    def __call__(self, *words: str) -> str:
        return succeed(run(*self.words(*words), env={"HOSTVM_CLIENT": "guest"}, limit=MOST))

    def status(self) -> str:
        words = self.words("status", NAME, "--json")
        return str(json.loads(run(*words, limit=MOST).out)["status"])


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    return Typed(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def machine(typed):
    """Whose agent began when the clock was right, and sees what is done to it."""
    with small_machine(NAME, "--driver", "qemu", "--names", "off") as made:
        made.hostvm("stop")
        made.sdk.close()  # an open connection is a use
        typed("start", NAME)
        typed("-m", NAME, "snapshot", "create", "before")
        typed.put(-DAY)
        yield made
        typed.put(0.0)


def guest_time() -> float:
    return float(run_in_guest(folders_of(NAME)[1], ["date", "+%s"]).stdout)


def test_a_running_machine_is_used_on(machine, typed):
    eventually(lambda: abs(guest_time() - (time.time() - DAY)) < 5, "the guest's clock follows", 60)
    assert typed.status() == "running"
    assert NAME in typed("ls")
    typed("-m", NAME, "docker", "run", "-d", "--restart", "always", "--name", "on", "busybox", "sleep", "3604")
    assert typed("-m", NAME, "docker", "run", "--rm", "busybox", "echo", "used") == "used"
    typed("-m", NAME, "docker", "restart", "-t", "0", "on")
    typed("doctor", NAME)


def test_snapshots_of_before_and_of_since_then(machine, typed):
    """The ones were made a day ahead; and the clock inside, which stood in what was saved, is right after each."""
    typed("-m", NAME, "snapshot", "create", "since")
    listed = json.loads(typed("-m", NAME, "snapshot", "ls", "--json"))
    assert [one["name"] for one in listed] == ["before", "since"], "in the order in which they were made"
    for name in ("before", "since"):
        typed("-m", NAME, "snapshot", "restore", "--force", name)
        eventually(lambda: abs(guest_time() - (time.time() - DAY)) < 5, "the guest's clock is right", 60)
        there = typed("-m", NAME, "docker", "ps", "-a", "--format", "{{.Names}}")
        assert there == ("on" if name == "since" else "")


def test_suspend_and_resume(machine, typed):
    boot = machine.boot_id()
    typed("suspend", NAME)
    assert typed.status() == "suspended"
    typed("resume", NAME)
    assert machine.boot_id() == boot
    typed("suspend", NAME)
    typed.put(-2 * DAY)  # while it sleeps, too
    typed("start", NAME)
    assert machine.boot_id() == boot
    eventually(lambda: abs(guest_time() - (time.time() - 2 * DAY)) < 5, "the guest's clock is right", 60)


def test_an_idle_machine_falls_asleep_and_is_woken(machine, typed):
    typed("-m", NAME, "docker", "rm", "-f", "on")
    typed("set", NAME, "idle={after: 2s, action: suspend}")
    typed.put(typed.off - DAY)  # while the agent counts
    eventually(lambda: sleeper_status(folders_of(NAME)[1]) and typed.status() == "suspended", "it sleeps", 90)
    typed.put(typed.off - DAY)  # while nobody but its sleeper is there
    with contextlib.closing(docker.DockerClient(base_url=machine.docker_host, timeout=MOST)) as client:
        assert client.ping()
    typed("set", NAME, "idle=")
    typed("start", NAME)
    assert typed.status() == "running"


def test_a_lock_of_before_is_let_go(machine, typed):
    """Two commands that want the same machine, the clock being set while one waits; then stop and start."""
    environment = {**os.environ, "HOSTVM_CLIENT": "guest"}
    first, second = (
        subprocess.Popen(typed.words(*words), env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in (("restart", NAME), ("stop", NAME))
    )
    typed.put(typed.off - DAY)
    assert (first.wait(MOST), second.wait(MOST)) == (0, 0)
    typed("stop", NAME)
    assert typed.status() == "stopped"
    typed("start", NAME)
    assert typed.status() == "running"
    eventually(lambda: abs(guest_time() - (time.time() + typed.off)) < 5, "the guest's clock is right", 60)
