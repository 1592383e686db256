"""Latency of commands: through hostvm's agent, against OpenSSH doing the same with a kept connection.

    .venv/bin/python benchmarks/cli.py [--rounds 20]

Measured on one running machine, the two ways in turn so that both see the same load:
  docker ps run in the guest     hostvm docker ps          ssh with ControlMaster
  docker ps run on the host      on hostvm's docker.sock   on a socket of ssh -L
  docker ps, a client is here    hostvm docker ps          that client alone on the socket of ssh -L
and how long hostvm's own client takes from its start to its first word to the agent, and what the agent takes of the
computer while nothing happens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ours
import psutil
import report

from hostvm.guest_images import guest_arch
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import find_qemu
from hostvm.ssh.keys import load_keys
from hostvm.state import load_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAME = "bench"
DOCKER = report.ROOT / ".tools" / "bin" / "docker"


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    qemu = find_qemu(guest_arch())
    with tempfile.TemporaryDirectory(prefix="hvb-") as folder:
        scratch = Path(folder)
        ours.use_scratch(scratch)
        with machine(), ssh_master(scratch) as (ssh, forwarded):
            facts: dict[str, Any] = {"machine": report.machine_facts(qemu.version_text, ours.accelerator(NAME))}
            facts["rounds"] = rounds
            facts["guest"] = compare(rounds, [*inner(), "ps"], [*ssh, "docker", "ps"])
            sock = MachinePaths.of(NAME).docker_sock
            facts["host"] = compare(rounds, [*outer(sock), "ps"], [*outer(forwarded), "ps"])
            facts["found"] = compare(rounds, [*inner(), "ps"], [*outer(forwarded), "ps"], "host")
            facts["agent"] = idle_agent()
        facts["startup"] = [startup(scratch) for _ in range(rounds)]
    print(f"wrote {report.save('cli', facts)}")
    text = render(facts)
    report.put_table("cli", text)
    print(text)


@contextlib.contextmanager
def machine() -> Iterator[None]:
    """A running machine, removed at the end."""
    ours.hostvm("start", NAME, "--cpus", "2", "--memory", "2GiB", "--driver", "qemu")
    try:
        yield
    finally:
        ours.hostvm("-m", NAME, "rm", "--force")


@contextlib.contextmanager
def ssh_master(scratch: Path) -> Iterator[tuple[list[str], Path]]:
    """OpenSSH with a kept connection and a forwarded engine socket; gives the ssh command and that socket."""
    paths = MachinePaths.of(NAME)
    keys, port = load_keys(paths.keys), load_state(paths).ssh_port
    known, control, forwarded = scratch / "known_hosts", scratch / "control", scratch / "forwarded.sock"
    known.write_text(f"[127.0.0.1]:{port} {keys.host_public}\n")
    options = [f"ControlPath={control}", f"UserKnownHostsFile={known}", "BatchMode=yes", "IdentitiesOnly=yes"]
    words = ["ssh", "-F", "none", "-p", str(port), "-i", str(keys.client_key)]
    words += [word for option in options for word in ("-o", option)]
    target = "root@127.0.0.1"
    master = [*words, "-o", "ControlMaster=yes", "-N", "-L", f"{forwarded}:/run/docker.sock", target]
    process = subprocess.Popen(master, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (control.exists() and forwarded.exists()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield [*words, target], forwarded
    finally:
        process.terminate()
        process.wait()


def inner() -> list[str]:
    """`hostvm docker`; whose client that is, `compare` says."""
    return [str(ours.HOSTVM), "-m", NAME, "docker"]


def idle_agent(seconds: float = 30.0) -> dict[str, float]:
    """Resident memory in MiB and per cent of one core of the machine's agent while nobody asks it anything."""
    agent = psutil.Process(json.loads(ours.hostvm("status", NAME, "--json").stdout)["agent"]["pid"])
    before = agent.cpu_times()
    time.sleep(seconds)
    after = agent.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {"resident": round(agent.memory_info().rss / 2**20, 1), "cpu": max(0.0, round(100 * used / seconds, 2))}


def outer(sock: Path) -> list[str]:
    """The host's docker client on a socket."""
    return [str(DOCKER), "-H", f"unix://{sock}"]


def compare(rounds: int, first: Sequence[str], second: Sequence[str], client: str = "guest") -> dict[str, list[float]]:
    """Both in turn, after one unmeasured run of each.

    :param client: whose hostvm takes, `guest` or `host`, whether or not this computer has one elsewhere. It is in the
        environment of both: an `env` before the words would be one more program to start.
    """
    path = f"{DOCKER.parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HOSTVM_CLIENT": client}
    for words in (first, second):
        timed(words, env)
    found: dict[str, list[float]] = {"hostvm": [], "ssh": []}
    for _ in range(rounds):
        found["hostvm"].append(timed(first, env))
        found["ssh"].append(timed(second, env))
    return found


def timed(words: Sequence[str], env: Mapping[str, str]) -> float:
    """Seconds from start to end.

    :raises SystemExit: it failed, so its time means nothing.
    """
    began = time.perf_counter()
    result = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took = time.perf_counter() - began
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {result.returncode}: {result.stderr.decode()}")
    return round(took, 4)


def startup(scratch: Path) -> float:
    """Seconds from the client's start until it connects to its agent, here a socket of ours."""
    folder = scratch / "run" / "startup"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "agent.sock"
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()
        server.settimeout(30)
        began = time.perf_counter()
        words = [str(ours.HOSTVM), "-m", "startup", "docker", "ps"]
        client = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server.accept()[0].close()
            return round(time.perf_counter() - began, 4)
        finally:
            client.kill()
            client.wait()


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md: medians over the rounds, in milliseconds."""

    def row(what: str, key: str, wanted: str) -> list[str]:
        mine, theirs = (report.median(facts[key][who]) for who in ("hostvm", "ssh"))
        return [what, f"{mine * 1000:.0f}", f"{theirs * 1000:.0f}", f"{mine / theirs:.2f}", wanted]

    agent = facts["agent"]
    startup_ms = report.median(facts["startup"]) * 1000
    rows = [
        row("`docker ps` by the client in the guest", "guest", "≤ 1.1"),
        row("`docker ps` by the host's client on the engine's socket", "host", "≤ 1.3"),
        row("`hostvm docker ps`, which finds the host's client", "found", "≤ 1.3"),
    ]
    header = ["command", "hostvm, ms", "OpenSSH, ms", "ratio", "wanted"]
    return "\n".join(
        [
            report.describe(facts["machine"]) + f" Median of {facts['rounds']} runs, taken in turn.\n",
            report.table(header, rows),
            f"hostvm's client from its start to its first word to the agent: {startup_ms:.0f} ms (wanted: ≤ 60).",
            f"The agent, idle: {agent['resident']:.0f} MiB (≤ 60), {agent['cpu']:.2f} % of a core (≤ 0.5).\n",
        ]
    )


if __name__ == "__main__":
    os.environ.pop("DOCKER_HOST", None)
    sys.exit(main())
