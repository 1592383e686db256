"""Machines that are damaged on purpose, and a record of what became of them, for docs/reliability.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from machines import folders_of, hostvm, last_lines, small_machine, succeed  # a helper of the e2e tests
from writers import LEDGER, PYTHON, ROWS, Writers, ledger_of, rows_of  # helpers beside this file

if TYPE_CHECKING:
    from victims import Blow

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
    """Rounds of one fault: what was hit, lost and told, and how long it took to be well again.

    `disk` is what was found of the machine's disk after the last of them, "" where nobody looked; `repaired` says
    whether its file system was repaired at a boot.
    """

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.seconds: list[float] = []
        self.blows: list[Blow] = []
        self.lost = 0
        self.acknowledged = 0
        self.told: list[str] = []
        self.disk = ""
        self.repaired = False

    @contextlib.contextmanager
    def healing(self):
        """Times the block."""
        begun = time.monotonic()
        yield
        self.seconds.append(round(time.monotonic() - begun, 1))

    def say(self, err: str) -> None:
        """The first line of an error, in front of a user."""
        self.told += re.findall(r"^hostvm: (.+)$", err, re.MULTILINE)[:1]

    def uncounted(self) -> Record:
        """Another one, for what is no round; nobody writes it down."""
        return Record(self.fault)

    def check_hits(self) -> None:
        """A fault that seldom happened says nothing of what becomes of it."""
        hits = sum(blow.hit for blow in self.blows)
        assert 2 * hits >= len(self.blows), f"{self.fault}: {hits} of {len(self.blows)} rounds hit: {self.blows}"

    def save(self) -> None:
        RECORD.parent.mkdir(exist_ok=True)
        rows = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        told = sorted({re.sub(r"faults-\d+", "NAME", line) for line in self.told})
        facts = {"rounds": len(self.blows or self.seconds), "acknowledged": self.acknowledged, "lost": self.lost}
        facts |= {"told": told, "seconds": self.seconds}
        if self.blows:
            hits = Counter(blow.phase for blow in self.blows if blow.hit)
            facts |= {"hits": hits.total(), "phases": dict(sorted(hits.items()))}
        if self.disk:
            facts["disk"] = self.disk
        rows[self.fault] = facts
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
    hostvm("start", faulty.name)  # a test that failed may have left it off
    for words in (("rm", "-fv"), ("volume", "rm", "-f")):
        hostvm("-m", faulty.name, "docker", *words, LEDGER, ROWS)


def started(machine, *writers) -> Writers:
    for writer in writers:
        writer.start()
    machine.shell("sync")  # the engine does not wait until what it unpacked is on the disk
    return Writers(*writers)


@pytest.fixture
def ledger(machine):
    """A ledger that is being written."""
    return started(machine, ledger_of(machine))


@pytest.fixture
def ledger_and_rows(machine):
    """Beside it, a database that is being written."""
    if machine.try_docker("image", "inspect", PYTHON).status:
        machine.hostvm("image", "base", "distroless-python")
    return started(machine, ledger_of(machine), rows_of(machine))


@pytest.fixture
def made():
    """A machine that was made and never started, and its folder."""
    name = f"faults-{os.getpid()}-m"
    succeed(hostvm("create", name, "--memory", "512MiB", "--cpus", "1", "--mount", "none"))
    yield name, folders_of(name)[0]
    succeed(hostvm("rm", "--force", name))
