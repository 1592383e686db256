"""A machine's life as a user types it: suspend, the docker command that resumes, stop, cold start, snapshots, clones.

    .venv/bin/python benchmarks/lifecycle.py [--rounds 5] [--skip-reference] [--accel auto] [--cpus 2] [--memory 2048]

A container runs all the while and must be the same one after each resume. `hostvm docker ps` uses the client of the
guest, then, where this computer has one, its own. The clock's error is read through ssh right after the resume. The
machine that ephemeral ones begin from is made before it is measured. `hostvm ls` is run at least 20 times, with 19 more
machines that were never started. In each round the ordinary Debian guest of boot.py is booted beside it, under the same
QEMU and of the same size, when the machine is stopped. The computer should have nothing else to do.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import life
import ours
import reference
import report

from hostvm.guest_images import guest_arch
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "bench"
OBEDIENT = "trap exit TERM; while :; do sleep 1 & wait; done"
WANTED = {
    "suspend": 3.5,
    "resume": 1.8,
    "resume-here": 1.8,
    "stop": 4.0,
    "restore": 2.5,
    "clone": 1.0,
    "ephemeral": 2.5,
    "ls": 0.12,
}
MACHINES = 20
ROWS = {
    "suspend": "`hostvm suspend`",
    "resume": "`hostvm docker ps` of a suspended machine, by the guest's client",
    "resume-here": "... by this computer's client",
    "stop": "`hostvm stop`",
    "start": "`hostvm start` of a stopped machine",
    "reference": "cold start of the ordinary Debian guest to the engine's answer, a later boot",
    "snapshot": "`hostvm snapshot create` of a running machine",
    "restore": "`hostvm snapshot restore` of one, the container included",
    "clone": "`hostvm clone` of a stopped machine",
    "ephemeral": "`hostvm run --rm-machine -- true`, the machine's removal included",
    "ls": f"`hostvm ls` with {MACHINES} machines",
}


def main() -> None:
    """Measure, write, print."""
    parser = life.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-reference", action="store_true", help="no ordinary guest; it takes a minute a round")
    options = parser.parse_args()
    guest = None if options.skip_reference else reference.build(reference.BUILD, guest_arch())
    rounds = options.rounds

    def run_all(host: reference.Host) -> dict[str, list[float]]:
        with ordinary(guest, host) as boot:
            return run(host, rounds, boot)

    life.benchmark("lifecycle", options, {"rounds": rounds}, run_all, render)


@contextmanager
def ordinary(guest: reference.ReferenceGuest | None, host: reference.Host) -> Iterator[Callable[[], list[float]]]:
    """What boots the reference guest once more, and gives the seconds from power-on to the engine's answer.

    Its first boot, in which cloud-init does all its work, is not among them, as none of hostvm's first starts is.

    :param guest: None gives no figures.
    """
    with tempfile.TemporaryDirectory(prefix="hvb-reference-") as scratch:
        folder = Path(scratch)
        if guest is None:
            yield list
            return
        disk = reference.fresh_disk(guest, folder / "reference.qcow2")
        print("reference guest, first boot", file=sys.stderr, flush=True)
        reference.boot(guest, disk, host, folder)
        yield lambda: [reference.boot(guest, disk, host, folder).engine]


def run(host: reference.Host, rounds: int, boot: Callable[[], list[float]]) -> dict[str, list[float]]:
    """All rounds on one machine; seconds, but for `state` (bytes).

    :param boot: by `ordinary`.
    """
    found: dict[str, list[float]] = {key: [] for key in (*ROWS, "state", "clock")}
    size = ("--cpus", str(host.cpus), "--memory", f"{host.memory // 2**20}MiB")
    ephemeral = ("--rm-machine", *size, "--accel", host.accel)
    ours.hostvm("create", NAME, "--driver", "qemu", *size, "--accel", host.accel, "--mount", "none")
    try:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            found["start"].append(seconds("start"))
            if number == 0:
                ours.hostvm("-m", NAME, "image", "base", "busybox:latest")
            ours.hostvm("-m", NAME, "docker", "run", "-d", "--rm", "--name", "kept", "busybox", "sh", "-c", OBEDIENT)
            before = container()
            found["suspend"].append(seconds("suspend"))
            found["state"].append(float(MachinePaths.of(NAME).suspended_ram.stat().st_size))
            found["resume"].append(seconds("docker", "ps"))
            found["clock"].append(clock_error())
            if container() != before:
                raise SystemExit("the container is another one after the resume")
            if shutil.which("docker"):
                ours.hostvm("-m", NAME, "suspend")
                with environment("HOSTVM_CLIENT", "host"):
                    found["resume-here"].append(seconds("docker", "ps"))
            found["snapshot"].append(seconds("snapshot", "create", "kept"))
            found["restore"].append(seconds("snapshot", "restore", "--force", "kept"))
            if container() != before:
                raise SystemExit("the container is another one after the restore")
            ours.hostvm("-m", NAME, "snapshot", "rm", "kept")
            found["stop"].append(seconds("stop"))
            found["clone"].append(seconds("clone", NAME, f"{NAME}-copy"))
            ours.hostvm("rm", f"{NAME}-copy")
            if number == 0:
                ours.hostvm("run", *ephemeral, "--", "true")
            found["ephemeral"].append(seconds("run", *ephemeral, "--", "true"))
            found["reference"] += boot()
        found["ls"] = with_many(lambda: [seconds("ls") for _ in range(max(rounds, 20))])
    finally:
        ours.hostvm("rm", "--force", NAME)
    return found


def with_many(measure: Callable[[], list[float]]) -> list[float]:
    """What `measure` finds while there are `MACHINES` machines, all but one made for it and never started."""
    others = [f"{NAME}-{number}" for number in range(1, MACHINES)]
    try:
        for other in others:
            ours.hostvm("create", other, "--driver", "qemu", "--mount", "none")
        return measure()
    finally:
        for other in others:
            if MachinePaths.of(other).folder.exists():
                ours.hostvm("rm", "--force", other)


def seconds(*words: str) -> float:
    """How long `hostvm -m NAME WORDS` takes."""
    began = time.monotonic()
    ours.hostvm("-m", NAME, *words)
    return round(time.monotonic() - began, 3)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Another value of a variable that is set."""
    before, os.environ[name] = os.environ[name], value
    try:
        yield
    finally:
        os.environ[name] = before


def container() -> str:
    """Process number and start of the container."""
    return ours.hostvm("-m", NAME, "docker", "inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "kept").stdout


def clock_error() -> float:
    """Seconds that the guest's clock is off: seen from the middle of the way there and back."""
    before = time.time()
    told = float(ours.hostvm("-m", NAME, "shell", "--", "bash", "-c", "echo $EPOCHREALTIME").stdout or 0)
    return round(told - (before + time.time()) / 2, 4)


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md."""
    found, guest = facts["lifecycle"], facts["guest"]
    rows = []
    for key, name in ((key, name) for key, name in ROWS.items() if found[key]):
        wanted = f"≤ {WANTED[key]}" if key in WANTED else ""
        rows.append([name, f"{report.median(found[key]):.2f}", f"{min(found[key]):.2f}-{max(found[key]):.2f}", wanted])
    size = report.median(found["state"]) / 2**20
    clock = max(abs(value) for value in found["clock"]) * 1000
    what = f"One machine with {guest['cpus']} CPUs, {guest['memory_mib']} MiB and a running container"
    off = f"The guest's clock after a resume: at most {clock:.0f} ms off (wanted: ≤ 100)"
    return "\n".join(
        [
            report.describe(facts["machine"]),
            f"{what}; {guest['rounds']} rounds; seconds.\n",
            report.table(["command", "median", "least and most", "wanted"], rows),
            f"Saved memory: {size:.0f} MiB. {off}, half of the time that asking took included.",
        ]
    )


if __name__ == "__main__":
    main()
