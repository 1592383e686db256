"""Power-on to ssh and to an answering engine: hostvm's guest, an ordinary Debian guest, quicksand's sandbox.

    .venv/bin/python benchmarks/boot.py [--rounds 3] [--accel auto] [--cpus 2] [--memory 2048] [--skip-quicksand]

Same QEMU, same accelerator, one guest at a time; the machine should have nothing else to do. Everything that is
built stays in build/bench. Not a test: figures depend on the machine and are written down with it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ours
import quicksand_peer
import reference
import report

from hostvm.accel import select_accel
from hostvm.guest_images import guest_arch
from hostvm.qemu_binary import QemuBinary, find_qemu
from images.progress import NullProgress

BUILD = report.ROOT / "build" / "bench"


def main() -> None:
    """Measure, write, print."""
    options = parse()
    qemu = find_qemu(guest_arch())
    guest = reference.build(reference.BUILD, qemu.arch)
    host = make_host(options, qemu, guest.kernel)
    facts: dict[str, Any] = {"machine": report.machine_facts(qemu.version_text, host.accel)}
    facts["guest"] = {"cpus": host.cpus, "memory_mib": options.memory, "rounds": options.rounds}
    with tempfile.TemporaryDirectory(prefix="hvb-") as scratch:
        facts["hostvm"] = run_ours(host, options.rounds, Path(scratch))
        facts["reference"] = run_reference(guest, host, options.rounds, Path(scratch))
        facts["quicksand"] = None if options.skip_quicksand else run_quicksand(host, options.rounds, Path(scratch))
    print(f"wrote {report.save('boot', facts)}")
    text = render(facts)
    report.put_table("boot", text)
    print(text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accel", default="auto")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--skip-quicksand", action="store_true")
    return parser.parse_args()


def make_host(options: argparse.Namespace, qemu: QemuBinary, kernel: Path) -> reference.Host:
    """What all guests share, the accelerator proven by the reference's kernel."""
    accel = select_accel(options.accel, qemu=qemu, kernel=kernel, cache_dir=BUILD / "accel", progress=NullProgress())
    return reference.Host(qemu.arch, accel, qemu.path, qemu.version, options.cpus, options.memory * 2**20)


def run_ours(host: reference.Host, rounds: int, scratch: Path) -> dict[str, Any]:
    """First boots (a new machine each), later boots, and `hostvm start`."""
    ours.use_scratch(scratch)
    first, later, starts = [], [], []
    for number in range(rounds):
        say(f"hostvm, round {number + 1} of {rounds}")
        name = f"bench{number}"
        ours.create(name, host)
        first.append(asdict(ours.boot_bare(name, host)))
        later.append(asdict(ours.boot_bare(name, host)))
        starts.append(ours.start(name))
        ours.hostvm("-m", name, "stop")
        ours.hostvm("-m", name, "rm", "--force")
    return {"first": first, "later": later, "start": starts}


def run_reference(guest: reference.ReferenceGuest, host: reference.Host, rounds: int, scratch: Path) -> dict[str, Any]:
    """A fresh overlay each round: its first boot runs cloud-init in full, its second finds all done."""
    first, later = [], []
    for number in range(rounds):
        disk = reference.fresh_disk(guest, scratch / "reference.qcow2")
        for times in (first, later):
            say(f"reference guest, round {number + 1} of {rounds}")
            times.append(asdict(reference.boot(guest, disk, host, scratch)))
    return {"first": first, "later": later}


def run_quicksand(host: reference.Host, rounds: int, scratch: Path) -> list[dict[str, float]] | None:
    """None when it does not run here; why is told on stderr."""
    python = quicksand_peer.install(BUILD / "quicksand")
    try:
        found = []
        for number in range(rounds):
            say(f"quicksand, round {number + 1} of {rounds}")
            found.append(quicksand_peer.measure(python, host.accel, scratch))
    except (RuntimeError, OSError) as error:
        say(f"quicksand did not start: {error}")
        return None
    return found


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md: medians over the rounds."""

    def figures(runs: list[dict[str, float]]) -> tuple[float, float, float]:
        return tuple(report.median([run[key] for run in runs]) for key in ("ssh", "engine", "used"))  # type: ignore[return-value]

    rows, engine = [], {}
    for key, name in (("hostvm", "hostvm"), ("reference", "Debian, systemd, cloud-init, docker.io")):
        for boot in ("first", "later"):
            ssh, ready, used = figures(facts[key][boot])
            engine[key, boot] = ready
            rows.append([f"{name}, {boot} boot", f"{ssh:.1f}", f"{ready:.1f}", f"{used / 2**20:.0f}"])
    if facts["quicksand"]:
        ready = report.median([run["ready"] for run in facts["quicksand"]])
        rows.append(["quicksand 0.14, Alpine, 1 CPU", f"{ready:.1f} (its agent)", "no engine", ""])
    starts = facts["hostvm"]["start"]
    total, before = (report.median([run[key] for run in starts]) for key in ("total", "before"))
    ratios = ", ".join(f"{engine['hostvm', b] / engine['reference', b]:.2f} ({b} boot)" for b in ("first", "later"))
    guest = facts["guest"]
    size = f"Guests with {guest['cpus']} CPUs and {guest['memory_mib']} MiB"
    how = f"median of {guest['rounds']} rounds; seconds since QEMU was started."
    start = f"`hostvm start` as typed, later boot: {total:.1f} s in all, of which {before:.1f} s before power-on."
    return "\n".join(
        [
            report.describe(facts["machine"]),
            f"{size}; {how}\n",
            report.table(["guest", "ssh answers", "engine answers", "memory used then, MiB"], rows),
            f"Engine, hostvm to the ordinary guest: {ratios}. {start}\n",
        ]
    )


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
