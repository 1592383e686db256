"""What a machine costs that nobody uses, and what it gives back: processor, memory, disk.

    .venv/bin/python benchmarks/idle.py [--seconds 60] [--image 250] [--accel auto] [--cpus 2] [--memory 2048]

The image is of random bytes (`docker import` of a stream), and may be larger than the guest's memory.
Memory is what of the computer's QEMU holds (RSS). Under emulation QEMU has up to 512 MiB of translated code besides.
"""

from __future__ import annotations

import base64
import json
import tarfile
import time
from typing import TYPE_CHECKING, Any

import life
import ours
import psutil
import report

from hostvm.machines.trim import allocated
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    import reference

NAME = "bench"
MIB = 2**20
EATEN = 1024
EAT = f"head -c {EATEN * MIB} /dev/zero > /dev/shm/x; sleep 3"
WARM_UP = 66.0
"""Seconds until what follows a start (the first trim) is over."""

BACK = 20.0
"""Seconds that reclaiming may take: 10 of quiet, then the guest's report every 2 s."""


def main() -> None:
    """Measure, write, print."""
    parser = life.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of idleness that are measured")
    parser.add_argument("--image", type=int, default=250, help="MiB of the image that is removed again")
    options = parser.parse_args()
    guest = {"seconds": options.seconds, "image_mib": options.image}
    life.benchmark("idle", options, guest, lambda host: run(host, options.seconds, options.image), render)


def run(host: reference.Host, seconds: float, image: int) -> dict[str, float]:
    """One machine from its start to its sleep; percent of a core, MiB.

    :param image: MiB of the one that is removed again.
    """
    found: dict[str, float] = {}
    paths = MachinePaths.of(NAME)
    size = ("--cpus", str(host.cpus), "--memory", f"{host.memory // MIB}MiB")
    ours.hostvm("create", NAME, "--driver", "qemu", *size, "--accel", host.accel, "--mount", "none")
    try:
        ours.hostvm("start", NAME)
        ours.hostvm("-m", NAME, "image", "base", "busybox:latest")
        time.sleep(WARM_UP)
        qemu, agent = psutil.Process(int((paths.run_dir / "qemu.pid").read_text())), psutil.Process(told("agent"))
        before = [spent(qemu), spent(agent)]
        time.sleep(seconds)
        found["qemu_percent"], found["agent_percent"] = (
            round((after - was) / seconds * 100, 2)
            for was, after in zip(before, (spent(qemu), spent(agent)), strict=True)
        )
        found["agent_rss"] = rss(agent)
        found |= memory(qemu) | disk(paths, image)
        ours.hostvm("-m", NAME, "suspend")
        found["sleeper_rss"] = rss(psutil.Process(told("sleeper")))
        began = time.monotonic()
        engine_answers(paths)
        found["wake_seconds"] = round(time.monotonic() - began, 2)
    finally:
        ours.hostvm("rm", "--force", NAME)
    return found


def told(who: str) -> int:
    """Process number of the machine's agent or sleeper."""
    return int(json.loads(ours.hostvm("inspect", NAME).stdout)["observed"][who]["pid"])


def spent(process: psutil.Process) -> float:
    """Seconds of a processor so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rss(process: psutil.Process) -> float:
    """MiB."""
    return round(process.memory_info().rss / MIB, 1)


def memory(qemu: psutil.Process) -> dict[str, float]:
    """Before a container that eats memory, while it has it, after it ended."""
    found = {"rss_before": rss(qemu)}
    words = ("docker", "run", "-d", "--rm", "--shm-size", f"{EATEN + 1}m", "--name", "eats", "busybox", "sh", "-c", EAT)
    ours.hostvm("-m", NAME, *words)
    most = 0.0
    while "eats" in ours.hostvm("-m", NAME, "docker", "ps", "--format", "{{.Names}}").stdout:
        most = max(most, rss(qemu))
        time.sleep(0.2)
    found["rss_most"] = most
    time.sleep(BACK)
    return found | {"rss_after": rss(qemu)}


def disk(paths: MachinePaths, image: int) -> dict[str, float]:
    """The disk's file before an image of so many MiB, with it, and after it was removed."""
    found = {"disk_before": allocated(paths.data_disk) / MIB}
    began = time.monotonic()
    bring(image)
    found["image_seconds"] = time.monotonic() - began
    ours.hostvm("-m", NAME, "shell", "--", "sync")
    found["disk_most"] = allocated(paths.data_disk) / MIB
    ours.hostvm("-m", NAME, "docker", "rmi", "large:1")
    time.sleep(BACK)
    return {key: round(value, 1) for key, value in (found | {"disk_after": allocated(paths.data_disk) / MIB}).items()}


def bring(size: int) -> None:
    """An image of so many MiB, made in the guest while the engine takes it: no byte of it is kept elsewhere."""
    head = tarfile.TarInfo("large")
    head.size = size * MIB
    text = base64.b64encode(head.tobuf()).decode()
    parts = f"echo {text} | base64 -d; head -c {head.size} /dev/urandom; head -c {2 * tarfile.BLOCKSIZE} /dev/zero"
    script = f"set -o pipefail; {{ {parts}; }} | docker import - large:1"
    ours.hostvm("-m", NAME, "shell", "--", "bash", "-c", script, timeout=3600)


def engine_answers(paths: MachinePaths) -> None:
    """One request at docker.sock, as any docker client makes it."""
    from hostvm.agent.client import open_engine
    from runtime.docker.api import EngineApi

    EngineApi(lambda: open_engine(paths.run_dir), NAME).call("GET", "/images/json")


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md."""
    found, guest = facts["idle"], facts["guest"]
    kept = (found["disk_after"] - found["disk_before"]) / (found["disk_most"] - found["disk_before"]) * 100
    both = found["qemu_percent"] + found["agent_percent"]
    rows = [
        ["QEMU and agent, idle, % of a core", f"{both:.2f}, the agent's {found['agent_percent']:.2f}", "≤ 3"],
        ["QEMU's memory before the container, MiB", f"{found['rss_before']:.0f}", ""],
        [f"... while it has {EATEN} MiB", f"{found['rss_most']:.0f}", ""],
        [f"... {BACK:.0f} s after it ended", f"{found['rss_after']:.0f}", ""],
        [f"disk's file before an image of {guest['image_mib']} MiB, MiB", f"{found['disk_before']:.0f}", ""],
        [f"... with it, after {found['image_seconds']:.0f} s of import", f"{found['disk_most']:.0f}", ""],
        [f"... {BACK:.0f} s after it was removed", f"{found['disk_after']:.0f} ({kept:.0f} % left)", "≤ 10 %"],
        ["agent's memory, MiB", f"{found['agent_rss']:.0f}", ""],
        ["sleeper's memory, MiB", f"{found['sleeper_rss']:.0f}", ""],
        ["request at docker.sock of a suspended machine, s", f"{found['wake_seconds']:.2f}", "≤ 2.2"],
    ]
    what = f"One machine with {guest['cpus']} CPUs and {guest['memory_mib']} MiB; idle for {guest['seconds']:.0f} s."
    return "\n".join([report.describe(facts["machine"]), f"{what}\n", report.table(["what", "found", "wanted"], rows)])


if __name__ == "__main__":
    main()
