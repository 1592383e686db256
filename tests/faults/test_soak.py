"""One machine in use for an hour (or `HOSTVM_SOAK_MINUTES`): nothing lost, nothing that grows, the time right.

What a user does is done in an order that is drawn, the same in each run; now and then the machine is suspended, or its
agent killed, or it begins anew. While one agent lives, its descriptors and threads must not become more.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest
from guest_clock import CLOSE, asking, most_off  # a helper of the e2e tests, as the next one
from machines import HOSTVM, eventually, folders_of, hostvm, kill_agent, small_machine, unused_port
from rounds import audit, heal
from victims import is_alone

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES = float(os.environ.get("HOSTVM_SOAK_MINUTES") or 60)
ORDER = random.Random(7)
USES_OF_AN_AGENT = 40
"""Uses between two things that end an agent."""
MORE = 4
"""Descriptors and threads that a use of the moment may have, as connections that end when nobody asks for a while."""
MORE_MEMORY = 0.25
"""The part by which an agent's memory may grow: what it imports at its first such use, and what its allocator keeps."""

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(60 * MINUTES + 1800)]


@dataclass(frozen=True)
class Seen:
    """An agent at one moment; memory in bytes."""

    descriptors: int
    threads: int
    memory: int


@pytest.fixture(scope="module")
def faulty():
    with small_machine(f"faults-{os.getpid()}-long", "--driver", "qemu") as made:
        yield made


@pytest.fixture
def folder(machine, tmp_path):
    """One that is shared all the time."""
    shared = tmp_path / "shared"
    shared.mkdir()
    machine.hostvm("mount", "add", str(shared))
    yield shared
    hostvm("-m", machine.name, "mount", "rm", str(shared))


def agent_of(machine) -> psutil.Process:
    return psutil.Process(json.loads((folders_of(machine.name)[1] / "agent.json").read_text())["process"][0])


def look_at(machine) -> Seen:
    agent = agent_of(machine)
    return Seen(agent.num_fds(), agent.num_threads(), agent.memory_info().rss)


class Uses:
    """What a user does; each looks at what came of it."""

    def __init__(self, machine, folder, scratch) -> None:
        self._machine, self._folder, self._scratch = machine, folder, scratch
        self._number = 0

    def all(self) -> list[Callable[[], None]]:
        first = [self.run, self.send, self.publish, self.build, self.share]
        return [*first, self.copy, self.follow, self.volume, self.ask]

    def _new(self) -> str:
        self._number += 1
        return f"use-{self._number}"

    def run(self) -> None:
        assert self._machine.docker("run", "--rm", "busybox", "echo", "said") == "said"

    def send(self) -> None:
        """4 MiB through a container and back."""
        data = random.Random(self._number).randbytes(2 << 20).hex()
        assert self._machine.docker("run", "--rm", "-i", "busybox", "cat", stdin=data) == data

    def publish(self) -> None:
        name, port = self._new(), unused_port()
        self._machine.docker("run", "-d", "--name", name, "-p", f"{port}:80", "busybox", "httpd", "-f", "-h", "/etc")
        try:
            for _ in range(20):
                eventually(lambda: read(port), "the published port answers")
        finally:
            self._machine.docker("rm", "-f", name)

    def build(self) -> None:
        name, context = self._new(), self._scratch / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo {name} > /name\n")
        self._machine.docker("build", "-q", "-t", name, str(context))
        assert self._machine.docker("run", "--rm", name, "cat", "/name") == name
        self._machine.docker("rmi", name)

    def share(self) -> None:
        """Written there, read here; changed here, read there; removed."""
        name = self._new()
        there = ("run", "--rm", "-v", f"{self._folder}:/f", "busybox")
        self._machine.docker(*there, "sh", "-c", f"for n in $(seq 50); do echo $n > /f/{name}-$n; done")
        assert (self._folder / f"{name}-50").read_text() == "50\n"
        (self._folder / f"{name}-50").write_text("changed\n")
        assert self._machine.docker(*there, "cat", f"/f/{name}-50") == "changed"
        self._machine.docker(*there, "sh", "-c", f"rm /f/{name}-*")
        assert not list(self._folder.iterdir())

    def copy(self) -> None:
        name, here, back = self._new(), self._scratch / "here", self._scratch / "back"
        here.write_bytes(random.Random(self._number).randbytes(1 << 20))
        self._machine.docker("create", "--name", name, "busybox")
        self._machine.docker("cp", str(here), f"{name}:/there")
        self._machine.docker("cp", f"{name}:/there", str(back))
        assert back.read_bytes() == here.read_bytes()
        self._machine.docker("rm", name)

    def follow(self) -> None:
        """A client that is killed while it follows a container's log."""
        name = self._new()
        self._machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "while :; do date; sleep 0.1; done")
        argv = [str(HOSTVM), "-m", self._machine.name, "docker", "logs", "-f", name]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "HOSTVM_CLIENT": "guest"}) as client:
            assert client.stdout.readline()
            client.kill()
        self._machine.docker("rm", "-f", name)

    def volume(self) -> None:
        name = self._new()
        self._machine.docker("run", "--rm", "-v", f"{name}:/v", "busybox", "sh", "-c", f"echo {name} > /v/name")
        assert self._machine.docker("run", "--rm", "-v", f"{name}:/v", "busybox", "cat", "/v/name") == name
        self._machine.docker("volume", "rm", name)

    def ask(self) -> None:
        """Twenty requests at the socket on this computer."""
        for _ in range(20):
            assert self._machine.sdk.ping()
        assert self._machine.sdk.api.info()["ContainersRunning"]


def read(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hosts", timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def suspend(machine) -> None:
    machine.hostvm("suspend")


def pause(machine) -> None:
    machine.hostvm("suspend", "--pause")


def snapshot(machine) -> None:
    machine.hostvm("snapshot", "create", "once")
    machine.hostvm("snapshot", "rm", "once")


def restart(machine) -> None:
    machine.hostvm("restart")


ENDS = [suspend, kill_agent, pause, snapshot, restart]
"""What an agent does not outlive."""


def test_an_hour_of_use(machine, ledger, folder, record, tmp_path):
    rounds = record(f"none: {MINUTES:.0f} minutes of use, the machine suspended and the like now and then")
    uses, most, done, memory = Uses(machine, folder, tmp_path), 0.0, 0, []
    ends = ENDS.copy()
    deadline = time.monotonic() + 60 * MINUTES
    while time.monotonic() < deadline:
        for use in uses.all():  # each once: what is imported and kept at the first time is there
            use()
        first = look_at(machine)
        with asking(machine) as ask:
            for _ in range(USES_OF_AN_AGENT):
                ORDER.choice(uses.all())()
                done += 1
                # Asking may take longer on a busy computer.
                most = max(most, eventually(lambda: (off := most_off(ask)) <= CLOSE and off, "the time is right", 10))
                if time.monotonic() > deadline:
                    break
        last = settled(machine, first)
        memory += [first.memory, last.memory]
        assert last.descriptors <= first.descriptors + MORE, (first, last)
        assert last.threads <= first.threads + MORE, (first, last)
        assert last.memory <= first.memory * (1 + MORE_MEMORY), (first, last)
        acknowledged = ledger.acknowledged()
        (end := ends.pop(0))(machine)
        ends.append(end)
        heal(machine, ledger, rounds)
        audit(ledger, rounds, acknowledged)
    assert done >= len(uses.all()), "it was a use at all"
    assert is_alone(machine.name)
    mib = [size >> 20 for size in memory]
    sys.stdout.write(
        f"{done} uses; the guest's clock at most {1000 * most:.0f} ms off, asking included; the agent's memory "
        f"{min(mib)} to {max(mib)} MiB; to be well again {rounds.seconds} s\n"
    )  # -rP


def settled(machine, first: Seen, seconds: float = 30.0) -> Seen:
    """Once no more is there than before, or after that time."""
    deadline = time.monotonic() + seconds
    while True:
        now = look_at(machine)
        if (now.descriptors <= first.descriptors and now.threads <= first.threads) or time.monotonic() > deadline:
            return now
        time.sleep(1.0)
