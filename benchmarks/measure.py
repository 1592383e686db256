"""Power-on to ssh and to an answering engine, for any guest with sshd and dockerd: one clock, one way to look."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.console import SSH_MARK, ConsoleMark
from hostvm.errors import HostvmError
from hostvm.ssh.banner import wait_banner as wait_announced_banner
from hostvm.ssh.connection import Connection, handshake, import_paramiko

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostvm.ssh.keys import Keys

DOCKER_SOCK = "/run/docker.sock"
_PATIENCE = 30.0
"""Seconds that a silent connection is kept."""

_PING = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"


@dataclass(frozen=True, slots=True)
class BootTimes:
    """Seconds since QEMU was started.

    :param ssh: sshd's banner was read.
    :param engine: the engine's API answered with 200.
    :param used: bytes of the guest's memory in use then (total less available), caches not counted.
    """

    ssh: float
    engine: float
    used: int


@contextlib.contextmanager
def powered_on(argv: list[str], log: Path) -> Iterator[float]:
    """Start QEMU; gives the moment on `time.monotonic`'s clock; killed and reaped at the end."""
    with log.open("wb") as output:
        started = time.monotonic()
        qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield started
    finally:
        qemu.kill()
        qemu.wait()


def measure(
    started: float, port: int, keys: Keys, console: Path | None = None, timeout: float = 300.0
) -> tuple[BootTimes, Connection]:
    """Wait for both; the connection stays open for the caller.

    :param console: of a guest that tells there when its sshd listens: it is not knocked on before, as `hostvm start`
        does not. Each knock that sshd hears too early makes it fork once more.
    """
    import_paramiko()
    deadline = started + timeout
    if console is None:
        sock = wait_banner(port, deadline)
    else:
        sock = wait_announced_banner(port, deadline, announced=ConsoleMark(console, SSH_MARK).seen)
    ssh = time.monotonic() - started
    connection = handshake(sock, client_key=keys.client_key, host_public_key=keys.host_public, deadline=deadline)
    connection.warm_up()
    wait_engine(connection, deadline)
    engine = time.monotonic() - started
    return BootTimes(round(ssh, 2), round(engine, 2), memory_used(connection)), connection


def wait_banner(port: int, deadline: float) -> socket.socket:
    """A connection on which sshd has begun to speak, its banner unread.

    QEMU's user network accepts before the guest does: a connection ends at once while nothing listens, and is
    silent, with retries seconds apart, while the guest has no network. So silence is answered by another connection,
    ever more slowly, and none is given up for long: a busy guest may need seconds for its first words, and
    starting over would keep it busy.
    """
    probes: dict[socket.socket, float] = {}
    opened = 0.0
    try:
        while (now := time.monotonic()) < deadline:
            if not probes or now - opened >= min(0.25 * len(probes), 1.0):
                opened = now
                with contextlib.suppress(OSError):  # QEMU itself may not listen yet
                    probes[socket.create_connection(("127.0.0.1", port), timeout=1.0)] = now
            for probe in select.select(list(probes), [], [], 0.02)[0]:
                del probes[probe]
                with contextlib.suppress(OSError):
                    if probe.recv(4, socket.MSG_PEEK) == b"SSH-":
                        return probe
                probe.close()
            for probe in [probe for probe, since in probes.items() if now - since > _PATIENCE]:
                del probes[probe]
                probe.close()
            if not probes:
                time.sleep(0.02)
    finally:
        for probe in probes:
            probe.close()
    raise SystemExit("ssh did not answer in time")


def wait_engine(connection: Connection, deadline: float) -> None:
    """Ask dockerd's /_ping through the connection until it answers."""
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, HostvmError):
            stream = connection.open_socket(DOCKER_SOCK)
            try:
                stream.sendall(_PING)
                if b" 200 " in stream.recv(64):
                    return
            finally:
                stream.close()
        time.sleep(0.05)
    raise SystemExit("the engine did not answer in time")


def memory_used(connection: Connection) -> int:
    """MemTotal less MemAvailable, in bytes."""
    lines = connection.run(["cat", "/proc/meminfo"]).stdout.decode().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (kib["MemTotal"] - kib["MemAvailable"]) * 1024


def power_off(connection: Connection, argv: list[str], deadline: float = 60.0) -> None:
    """Tell the guest to power itself off and wait for the end of the connection, so that its disk is whole."""
    with contextlib.suppress(HostvmError, OSError):
        connection.run(argv, timeout=10)
    connection.wait_closed(deadline)
    connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
