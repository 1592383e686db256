"""A running machine for each engine, and what docs/engines.md says of what it can."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from machines import add_logs, hostvm, succeed

PAGE = Path(__file__).parent.parent.parent / "docs" / "engines.md"
BUSYBOX = "docker.io/library/busybox:latest"
KINDS = ("docker", "podman", "containerd", "docker-rootless", "podman-rootless")


def read_table(page: Path = PAGE) -> dict[str, dict[str, str]]:
    """Ability -> kind of engine -> what the page says: "yes", or "no" and why."""
    rows = [line.strip().strip("|").split("|") for line in page.read_text(encoding="utf-8").splitlines() if "|" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    start = next(number for number, row in enumerate(cells) if tuple(row[1:]) == KINDS)
    found = {}
    for ability, *told in cells[start + 2 :]:
        if len(told) != len(cells[start]) - 1:
            break
        found[ability] = dict(zip(cells[start][1:], told, strict=True))
    return found


TABLE = read_table()


@dataclass
class Rig:
    """A running machine with its engine."""

    name: str
    kind: str

    @property
    def engine(self) -> str:
        return self.kind.removesuffix("-rootless")

    @property
    def rootless(self) -> bool:
        return self.kind != self.engine

    def words(self, *words: str, stdin: str | None = None):
        return hostvm("-m", self.name, *words, stdin=stdin)

    def ok(self, *words: str, stdin: str | None = None) -> str:
        return succeed(self.words(*words, stdin=stdin))

    def facts(self) -> dict:
        return json.loads(self.ok("status", "--json"))

    def can(self, ability: str, *instead: str) -> bool:
        """Whether the page says yes; where it says no, `instead` is refused with the engine's name."""
        told = TABLE[ability][self.kind]
        if told.startswith("yes"):
            return True
        assert told.startswith("no")
        refused = self.words(*instead)
        assert refused.status in (1, 125), str(refused)
        assert self.engine in refused.err, str(refused)
        return False

    def remove(self, container: str) -> None:
        """At once: Podman alone gives one that it is told to remove the time to stop."""
        self.ok("docker", "rm", "-f", *(("-t", "0") if self.engine == "podman" else ()), container)

    def run(self, *command: str, stdin: str | None = None):
        """A container that is gone when its command has ended."""
        if self.engine == "containerd":
            return self.words("ctr", "run", "--rm", BUSYBOX, f"once-{os.getpid()}", *command, stdin=stdin)
        return self.words(self.engine, "run", "--rm", "-i", "busybox", *command, stdin=stdin)


@contextlib.contextmanager
def running_rig(kind: str, *options: str):
    """A machine for one kind of engine, with busybox made from packages; gone after the block."""
    made = Rig(f"e2e-{os.getpid()}-{kind[:3]}{'-r' if 'rootless' in kind else ''}", kind)
    template = ("--template", "rootless") if made.rootless else ()
    small = ("--cpus", "1", "--memory", "1GiB", "--mount", "none")
    try:
        succeed(hostvm("start", made.name, "--engine", made.engine, *small, *options, *template))
        made.ok("image", "base", "busybox")
        yield made
    except BaseException as error:
        add_logs(error, made.name)
        raise
    finally:
        removed = hostvm("rm", "--force", made.name)
    succeed(removed)
