"""Containers that write numbers into a volume and tell each one only when it is safe there.

What they told before a fault is acknowledged, and must be there afterwards.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from typing import TYPE_CHECKING

from machines import HOSTVM, eventually, hostvm  # a helper of the e2e tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machines import Machine

LEDGER, ROWS = "ledger", "rows"
PYTHON = "distroless-python:trixie"
LOOP = (
    "i=$(tail -n 1 /v/ledger 2> /dev/null || echo 0); while :; do i=$((i + 1)); "
    "echo $i | dd of=/v/ledger oflag=append conv=notrunc,fsync 2> /dev/null && echo $i; done"
)
# With a rollback journal it takes synchronous=extra for a commit to outlast a power cut; with a write-ahead log, full.
INSERT = """
import sqlite3, time
base = sqlite3.connect("/v/rows.db", timeout=60, isolation_level=None)
assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
base.execute("pragma synchronous=full")
base.execute("create table if not exists numbers (n integer primary key)")
n = base.execute("select coalesce(max(n), 0) from numbers").fetchone()[0]
while True:
    n += 1
    base.execute("insert into numbers values (?)", (n,))
    print(n, flush=True)
    time.sleep(0.02)  # the other writer's and the engine's processor, too
"""
SELECT = """
import sqlite3
base = sqlite3.connect("/v/rows.db", timeout=60)
assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
print(*(n for (n,) in base.execute("select n from numbers order by n")))
"""


class Writer:
    """One such container.

    :param name: its own, and its volume's.
    :param image: with the words after it, what writes.
    :param look: words that print every number that is there, in the same image.
    """

    def __init__(self, machine: Machine, name: str, image: str, write: list[str], look: list[str]) -> None:
        self.machine, self.name = machine, name
        self._image, self._write, self._look = image, write, look

    def start(self) -> None:
        policy = ("--restart", "always", "--stop-signal", "KILL")
        self.machine.docker("run", "-d", "--name", self.name, *policy, *self._volume(), self._image, *self._write)

    @contextlib.contextmanager
    def read(self) -> Iterator[Callable[[], int]]:
        """Gives a function that tells the last number that was acknowledged, seen from this computer, until it ends."""
        told: list[int] = [0]
        command = subprocess.Popen(
            [HOSTVM, "-m", self.machine.name, "docker", "logs", "-f", "--tail", "1", self.name],
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

    def lost(self, acknowledged: int) -> int:
        """How many of the acknowledged numbers are missing, or out of order."""
        text = self.machine.docker("run", "--rm", *self._volume(), self._image, *self._look)
        there = [int(word) for word in text.split()]
        return len(set(range(1, acknowledged + 1)) - set(there)) + (there != sorted(there))

    def _volume(self) -> tuple[str, str]:
        return "-v", f"{self.name}:/v"


def ledger_of(machine: Machine) -> Writer:
    """A file to which lines are added, each by fsync."""
    return Writer(machine, LEDGER, "busybox", ["sh", "-c", LOOP], ["cat", "/v/ledger"])


def rows_of(machine: Machine) -> Writer:
    """A table of SQLite, a transaction for each row."""
    return Writer(machine, ROWS, PYTHON, ["-c", INSERT], ["-c", SELECT])


class Writers:
    """Some of them at once; numbers are lists in their order."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers

    @contextlib.contextmanager
    def read(self) -> Iterator[Callable[[], list[int]]]:
        """As `Writer.read`, of each."""
        with contextlib.ExitStack() as stack:
            told = [stack.enter_context(writer.read()) for writer in self._writers]
            yield lambda: [last() for last in told]

    @contextlib.contextmanager
    def busy(self, more: int) -> Iterator[Callable[[], list[int]]]:
        """As `read`, once each has written so many numbers under its eyes."""
        with self.read() as told:
            eventually(lambda: all(told()), "writes are acknowledged", 90)
            wanted = [last + more for last in told()]
            eventually(lambda: all(now > last for now, last in zip(told(), wanted, strict=True)), "more of them", 90)
            yield told

    def acknowledged(self) -> list[int]:
        with self.busy(0) as told:
            return told()

    def lost(self, acknowledged: list[int]) -> int:
        return sum(writer.lost(last) for writer, last in zip(self._writers, acknowledged, strict=True))

    def run(self) -> bool:
        """Whether the engine says that all of them run."""
        name, words = self._writers[0].machine.name, [writer.name for writer in self._writers]
        done = hostvm("-m", name, "docker", "inspect", "-f", "{{.State.Running}}", *words)
        return done.status == 0 and done.out.split() == ["true"] * len(words)
