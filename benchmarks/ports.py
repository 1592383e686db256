"""Published ports: throughput and new connections, against `ssh -L` and the hypervisor's bare forward, in one run.

    .venv/bin/python benchmarks/ports.py [--rounds 7] [--machine NAME]

One container serves; four ways lead to it: hostvm's published port, the same published on the guest's loopback
(through ssh), a bare `hostfwd` of the hypervisor, and OpenSSH's `ssh -L`. They are measured in turn, so that all see
the same load. With --machine a running machine is used and left as it was; without, one is made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ours
import report
from measure import free_port

from hostvm.guest_images import guest_arch
from hostvm.machines.open import machine_driver
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import find_qemu
from hostvm.spec import load_spec
from hostvm.ssh.keys import load_keys
from hostvm.state import load_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "bench"
CONTAINER = "bench-ports"
CHUNK = 256 * 1024
DOWN, UP, CLOSE = range(7100, 7103)
"""Ports of the container: sends as much as it is asked for; takes all and says how much; ends each at once."""

# perl-base is in every Debian image. A process a connection, so that none waits for another.
SERVER = r"""
use IO::Socket::INET; $SIG{CHLD} = "IGNORE"; $| = 1; my $zeros = "\0" x 262144;
for my $port (7100 .. 7102) {
    next if fork;
    my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 1024, ReuseAddr => 1) or die $!;
    print "$port\n";
    while (my $sock = $listener->accept) {
        if ($port == 7102) { close $sock; next }
        if (fork) { close $sock; next }
        close $listener;
        if ($port == 7100) {
            my $left = <$sock>;
            while ($left > 0) { my $n = syswrite($sock, $zeros, $left > 262144 ? 262144 : $left) or last; $left -= $n }
        } else {
            my $all = 0;
            while (my $n = sysread($sock, my $data, 262144)) { $all += $n }
            syswrite($sock, $all);
        }
        exit;
    }
}
sleep 1 while 1;
"""


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=24, help="to carry in one round")
    parser.add_argument("--connections", type=int, default=100, help="to make in one round")
    parser.add_argument("--machine", help="a running machine, instead of one made for this")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvb-")))
        name = options.machine or stack.enter_context(machine(scratch))
        ways = stack.enter_context(every_way(name, scratch))
        qemu = find_qemu(guest_arch())
        facts: dict[str, Any] = {"machine": report.machine_facts(qemu.version_text, ours.accelerator(name))}
        facts |= {"rounds": options.rounds, "mib": options.mib, "connections": options.connections}
        size = options.mib * 2**20
        facts["down"] = compare(options.rounds, ways, lambda ports: size / 1e6 / download(ports[DOWN], size))
        facts["up"] = compare(options.rounds, ways, lambda ports: size / 1e6 / upload(ports[UP], size))
        count = options.connections
        facts["connections_per_second"] = compare(options.rounds, ways, lambda ports: count / open_close(ports, count))
        facts["appears"] = [appears(name) for _ in range(options.rounds)]
    print(f"wrote {report.save('ports', facts)}")
    text = render(facts)
    report.put_table("ports", text)
    print(text)


@contextlib.contextmanager
def machine(scratch: Path) -> Iterator[str]:
    """A running machine with a Debian image, removed at the end."""
    ours.use_scratch(scratch)
    ours.hostvm("start", NAME, "--cpus", "2", "--memory", "2GiB", "--driver", "qemu")
    try:
        ours.hostvm("-m", NAME, "image", "base", "debian:trixie")
        yield NAME
    finally:
        ours.hostvm("-m", NAME, "rm", "--force")


@contextlib.contextmanager
def every_way(name: str, scratch: Path) -> Iterator[dict[str, dict[int, int]]]:
    """For each way: port of the container -> port of 127.0.0.1."""
    places = {way: {port: free_port() for port in (DOWN, UP, CLOSE)} for way in ("hostvm", "by ssh", "bare", "ssh -L")}
    words = [word for port, here in places["hostvm"].items() for word in ("-p", f"{here}:{port}")]
    words += [word for port, here in places["by ssh"].items() for word in ("-p", f"127.0.0.1:{here}:{port}")]
    run = ["-m", name, "docker", "run", "-d", "--name", CONTAINER, *words, "debian:trixie", "perl", "-e", SERVER]
    with contextlib.ExitStack() as stack:
        ours.hostvm(*run)
        stack.callback(ours.hostvm, "-m", name, "docker", "rm", "-f", CONTAINER)
        paths = MachinePaths.of(name)
        forwards = machine_driver(paths, load_state(paths), load_spec(paths.spec)).forwards()
        assert forwards is not None
        wait_open(places["hostvm"])  # with its first forward the agent removes those that are not its own
        for port, here in places["bare"].items():
            forwards.add("tcp", here, places["hostvm"][port])
            stack.callback(forwards.remove, "tcp", here)
        stack.enter_context(ssh_forward(name, scratch, {h: places["hostvm"][p] for p, h in places["ssh -L"].items()}))
        for ports in places.values():
            wait_open(ports)
        yield places


@contextlib.contextmanager
def ssh_forward(name: str, scratch: Path, forwards: dict[int, int]) -> Iterator[None]:
    """OpenSSH with these ports of 127.0.0.1, here -> in the guest."""
    paths = MachinePaths.of(name)
    keys, port = load_keys(paths.keys), load_state(paths).ssh_port
    known = scratch / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {keys.host_public}\n")
    options = [f"UserKnownHostsFile={known}", "BatchMode=yes", "IdentitiesOnly=yes", "ExitOnForwardFailure=yes"]
    words = ["ssh", "-F", "none", "-N", "-p", str(port), "-i", str(keys.client_key)]
    words += [word for option in options for word in ("-o", option)]
    words += [word for here, there in forwards.items() for word in ("-L", f"127.0.0.1:{here}:127.0.0.1:{there}")]
    process = subprocess.Popen([*words, "root@127.0.0.1"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_open(ports: dict[int, int]) -> None:
    """Until the container answers this way."""
    deadline = time.monotonic() + 60
    while True:
        try:
            download(ports[DOWN], 100)
            upload(ports[UP], CHUNK)
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def compare(
    rounds: int, ways: dict[str, dict[int, int]], one: Callable[[dict[int, int]], float]
) -> dict[str, list[float]]:
    """All ways in turn, each round."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, ports in ways.items():
            found[way].append(round(one(ports), 2))
    return found


def dial(port: int) -> socket.socket:
    """A connection that gives up after a minute."""
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.settimeout(60)
    return sock


def download(port: int, size: int) -> float:
    """Seconds for `size` bytes from the container."""
    with dial(port) as sock:
        began = time.perf_counter()
        sock.sendall(b"%d\n" % size)
        left = size
        while data := sock.recv(CHUNK):
            left -= len(data)
        if left:
            raise ValueError(f"{left} bytes were lost")
        return time.perf_counter() - began


def upload(port: int, size: int) -> float:
    """Seconds for `size` bytes, a multiple of CHUNK, until the container has them all."""
    with dial(port) as sock:
        began = time.perf_counter()
        chunk = bytes(CHUNK)
        for _ in range(size // CHUNK):
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)
        told = b""
        while data := sock.recv(100):
            told += data
        if int(told) != size:
            raise ValueError(f"{size - int(told)} bytes were lost")
        return time.perf_counter() - began


def open_close(ports: dict[int, int], count: int) -> float:
    """Seconds for connections one after the other, each until the container has ended it."""
    began = time.perf_counter()
    for _ in range(count):
        with dial(ports[CLOSE]) as sock:
            sock.recv(1)
    return time.perf_counter() - began


def appears(name: str) -> float:
    """Milliseconds from the container's start event, as a client of the engine here sees it, until its port opens.

    Both are seen from this computer and by polling every 2 ms; a negative figure is a port that was there first.
    """
    port, probe = free_port(), "bench-probe"
    sock = MachinePaths.of(name).docker_sock
    with socket.socket(socket.AF_UNIX) as events:
        events.connect(str(sock))
        query = "type=container&filters=%7B%22event%22%3A%5B%22start%22%5D%7D"
        events.sendall(f"GET /v1.41/events?{query} HTTP/1.0\r\n\r\n".encode())
        while b"\r\n\r\n" not in events.recv(4096):
            pass
        words = [str(ours.HOSTVM), "-m", name, "docker", "run", "-d", "--name", probe, "-p", f"{port}:80"]
        child = subprocess.Popen([*words, "debian:trixie", "sleep", "60"], stdout=subprocess.DEVNULL)
        started = opened = 0.0
        events.settimeout(0.0)
        try:
            while not (started and opened):
                with contextlib.suppress(BlockingIOError):
                    if not started and events.recv(65536):
                        started = time.perf_counter()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    opened = opened or time.perf_counter()
                time.sleep(0.002)
        finally:
            child.wait()
            ours.hostvm("-m", name, "docker", "rm", "-f", probe)
    return round((opened - started) * 1000, 1)


def render(facts: dict[str, Any]) -> str:
    """The table for docs/benchmarks.md: medians of the rounds."""
    rows = []
    for key, what in (
        ("down", "from the guest, MB/s"),
        ("up", "to the guest, MB/s"),
        ("connections_per_second", "new connections, one after the other, a second"),
    ):
        median = {way: report.median(values) for way, values in facts[key].items()}
        mine = median["hostvm"]
        figures = [f"{median[way]:.1f}" for way in ("hostvm", "bare", "ssh -L", "by ssh")]
        rows.append([what, *figures, f"{mine / median['bare']:.2f}", f"{mine / median['ssh -L']:.2f}"])
    head = ["", "hostvm", "bare `hostfwd`", "`ssh -L`", "hostvm, guest's loopback", "to bare", "to `ssh -L`"]
    rows.append(["wanted", "", "", "", "", "≥ 0.95", "≥ 1.8"])
    told = (
        f"A port opens {report.median(facts['appears']):.0f} ms after the container's start event is heard of here "
        "(wanted: ≤ 300).\n"
    )
    described = report.describe(facts["machine"])
    carried = f" {facts['mib']} MiB and {facts['connections']} connections a round,"
    return (
        f"{described}{carried} median of {facts['rounds']} rounds, taken in turn.\n\n{report.table(head, rows)}\n{told}"
    )


if __name__ == "__main__":
    os.environ.pop("DOCKER_HOST", None)
    sys.exit(main())
