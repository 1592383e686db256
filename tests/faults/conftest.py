"""Machines that are damaged on purpose, and a record of what became of them, for docs/reliability.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from machines import HOSTVM, folders_of, hostvm, last_lines, small_machine, succeed  # a helper of the e2e tests

PASSED = pytest.StashKey[bool]()
RECORD = Path(__file__).parents[2] / "build" / "faults.json"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Beside a failure stands what the guests and their agents said last."""
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    machines = Path(os.environ["HOSTVM_HOME"], "machines")
    if report.failed and machines.is_dir():
        for log in sorted(path for name in ("console.log", "agent.log") for path in machines.glob(f"*/{name}")):
            report.sections.append((f"last lines of {log.parent.name}/{log.name}", last_lines(log)))
    return report


class Record:
    """Rounds of one fault: what was lost, what was told, and how long it took to be well again."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.seconds: list[float] = []
        self.lost = 0
        self.acknowledged = 0
        self.told: list[str] = []

    @contextlib.contextmanager
    def healing(self):
        """Times the block."""
        begun = time.monotonic()
        yield
        self.seconds.append(round(time.monotonic() - begun, 1))

    def say(self, err: str) -> None:
        """The first line of an error, in front of a user."""
        self.told += re.findall(r"^hostvm: (.+)$", err, re.MULTILINE)[:1]

    def save(self) -> None:
        RECORD.parent.mkdir(exist_ok=True)
        rows = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        told = sorted({re.sub(r"faults-\d+", "NAME", line) for line in self.told})
        facts = {"rounds": len(self.seconds), "acknowledged": self.acknowledged, "lost": self.lost, "told": told}
        rows[self.fault] = facts | {"seconds": self.seconds}
        RECORD.write_text(json.dumps(rows, indent=1) + "\n")


@pytest.fixture
def record(request):
    """`record("QEMU killed at rest")`; written down when the test has passed."""
    made: list[Record] = []

    def make(fault: str) -> Record:
        made.append(Record(fault))
        return made[-1]

    yield make
    for one in made if request.node.stash.get(PASSED, False) else []:
        one.save()


LOOP = (
    "i=$(tail -n 1 /v/ledger 2> /dev/null || echo 0); while :; do i=$((i + 1)); "
    "echo $i | dd of=/v/ledger oflag=append conv=notrunc,fsync 2> /dev/null && echo $i; done"
)


class Ledger:
    """A container that writes numbers into a volume, each by fsync, and only then tells them.

    What it told before a fault is acknowledged, and must be there afterwards.
    """

    def __init__(self, machine) -> None:
        self.machine = machine

    def start(self) -> None:
        policy = ("--restart", "always", "--stop-signal", "KILL")
        volume = ("-v", "ledger:/v", "busybox")
        self.machine.docker("run", "-d", "--name", "ledger", *policy, *volume, "sh", "-c", LOOP)

    @contextlib.contextmanager
    def read(self):
        """Gives a function that tells the last number that was acknowledged, seen from this computer, until it ends."""
        told: list[int] = [0]
        command = subprocess.Popen(
            [HOSTVM, "-m", self.machine.name, "docker", "logs", "-f", "--tail", "1", "ledger"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOSTVM_CLIENT": "guest"},
        )

        def take() -> None:
            for line in command.stdout:
                if line.strip().isdigit():
                    told[0] = max(told[0], int(line))

        reader = threading.Thread(target=take, daemon=True)
        reader.start()
        try:
            yield lambda: told[0]
        finally:
            command.kill()
            command.wait()
            reader.join()

    def check(self, acknowledged: int) -> int:
        """How many of the acknowledged numbers are missing, or out of order."""
        text = self.machine.docker("run", "--rm", "-v", "ledger:/v", "busybox", "cat", "/v/ledger")
        there = [int(line) for line in text.split()]
        return len(set(range(1, acknowledged + 1)) - set(there)) + (there != sorted(there))


@pytest.fixture(scope="session")
def faulty():
    """The machine that everything is done to."""
    with small_machine(f"faults-{os.getpid()}", "--driver", "qemu", "--names", "off") as made:
        yield made


@pytest.fixture
def machine(faulty):
    """It, running."""
    faulty.hostvm("start")
    yield faulty
    hostvm("-m", faulty.name, "docker", "rm", "-fv", "ledger")
    hostvm("-m", faulty.name, "docker", "volume", "rm", "ledger")


@pytest.fixture
def ledger(machine):
    """A ledger that is being written."""
    made = Ledger(machine)
    made.start()
    return made


@pytest.fixture
def made():
    """A machine that was made and never started, and its folder."""
    name = f"faults-{os.getpid()}-m"
    succeed(hostvm("create", name, "--memory", "512MiB", "--cpus", "1", "--mount", "none"))
    yield name, folders_of(name)[0]
    succeed(hostvm("rm", "--force", name))
