"""Engines side by side: a machine's cold start, a container that runs and is gone, an image's build.

    .venv/bin/python benchmarks/engine.py [--rounds 3] [--engine NAME ...] [--accel auto] [--cpus 2] [--memory 2048]

Each engine has a machine of its own, the others are off meanwhile; those of `-rootless` have no root's rights in the
guest. A build begins without cache; its files come from this computer. containerd has none. The computer should have
nothing else to do.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import life
import ours
import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    import reference

ROOTLESS = "-rootless"
ENGINES = ("docker", "podman", "containerd", f"docker{ROOTLESS}", f"podman{ROOTLESS}")
ROWS = {
    "start": "`hostvm start` of a stopped machine",
    "run": "`run --rm busybox true`",
    "build": "`build --no-cache`: three instructions, one of them `RUN`",
}
BUSYBOX = "docker.io/library/busybox:latest"
SAMPLE = "FROM busybox\nCOPY word /word\nRUN cat /word /word > /twice\n"


def main() -> None:
    """Measure, write, print."""
    parser = life.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="the table is of these alone")
    options = parser.parse_args()
    engines = options.engine or ENGINES
    guest = {"rounds": options.rounds}
    life.benchmark("engine", options, guest, lambda host: run(host, options.rounds, engines), render)


def run(host: reference.Host, rounds: int, engines: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds by engine and row."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="hvb-sample-") as sample:
        Path(sample, "Dockerfile").write_text(SAMPLE, encoding="utf-8")
        Path(sample, "word").write_text("again", encoding="utf-8")
        for engine in engines:
            print(engine, file=sys.stderr, flush=True)
            found[engine] = of_engine(engine, host, rounds, sample)
    return found


def of_engine(kind: str, host: reference.Host, rounds: int, sample: str) -> dict[str, list[float]]:
    """All rounds on one machine; its first start, which builds the guest image if need be, is not among them.

    :param kind: one of `ENGINES`.
    """
    engine = kind.removesuffix(ROOTLESS)
    template = ("--template", "rootless") if engine != kind else ()
    name = f"bench-{kind}"
    found: dict[str, list[float]] = {key: [] for key in ROWS}
    size = ("--cpus", str(host.cpus), "--memory", f"{host.memory // 2**20}MiB", "--accel", host.accel)
    ours.hostvm("create", name, *template, "--engine", engine, "--driver", "qemu", *size, "--mount", "none")
    try:
        ours.hostvm("start", name)
        ours.hostvm("-m", name, "image", "base", "busybox")
        for number in range(rounds):
            ours.hostvm("stop", name)
            found["start"].append(seconds(name, "start"))
            if engine == "containerd":
                found["run"].append(seconds(name, "ctr", "run", "--rm", BUSYBOX, f"once-{number}", "true"))
            else:
                found["run"].append(seconds(name, engine, "run", "--rm", "busybox", "true"))
                found["build"].append(seconds(name, engine, "build", "-q", "--no-cache", sample))
    finally:
        ours.hostvm("rm", "--force", name)
    return found


def seconds(name: str, *words: str) -> float:
    """How long `hostvm -m NAME WORDS` takes."""
    began = time.monotonic()
    ours.hostvm("-m", name, *words)
    return round(time.monotonic() - began, 3)


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md."""

    def cell(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"

    found, guest = facts["engine"], facts["guest"]
    rows = [[title, *(cell(values[key]) for values in found.values())] for key, title in ROWS.items()]
    size = f"{guest['cpus']} CPUs, {guest['memory_mib']} MiB; {guest['rounds']} rounds; seconds, median (least-most)."
    return "\n".join([report.describe(facts["machine"]), f"Machines with {size}\n", report.table(["", *found], rows)])


if __name__ == "__main__":
    main()
