"""Waiting for sshd through a forward that accepts before the guest listens."""

from __future__ import annotations

import select
import socket
import time

from hostvm.errors import SshError

# QEMU's user network accepts a connection at once and only then tries the guest. While nothing listens there
# the connection ends at once; while the guest has no network yet it stays silent, and its retries come seconds
# apart. So a silent connection is joined by a fresh one; a few are kept, since a busy guest may need a while to
# say its first words.
_PAUSE = 0.05
_SILENCE = 0.25
_MOST = 4


def wait_banner(port: int, deadline: float, host: str = "127.0.0.1") -> socket.socket:
    """A connected socket on which sshd has begun to speak, its banner still unread.

    :param deadline: on `time.monotonic`'s clock.
    :raises SshError: nothing spoke before the deadline.
    """
    probes: list[socket.socket] = []
    opened = 0.0
    try:
        while (now := time.monotonic()) < deadline:
            if not probes or (now - opened >= _SILENCE and len(probes) < _MOST):
                opened = now
                _add_probe(probes, host, port)
            ready, _, _ = select.select(probes, [], [], _PAUSE) if probes else ([], [], [])
            for probe in ready:
                if _speaks(probe):
                    probes.remove(probe)
                    return probe
                probes.remove(probe)
                probe.close()
            if not probes:
                time.sleep(_PAUSE)
            elif len(probes) == _MOST and now - opened >= _SILENCE:
                probes.pop(0).close()
    finally:
        for probe in probes:
            probe.close()
    raise SshError(
        "the guest's ssh server did not answer in time",
        f"nothing spoke on {host}:{port}",
        "hostvm logs --console   # shows how far the guest got",
    )


def _add_probe(probes: list[socket.socket], host: str, port: int) -> None:
    try:
        probe = socket.create_connection((host, port), timeout=1.0)
    except OSError:
        return  # the hypervisor does not listen yet
    probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    probes.append(probe)


def _speaks(probe: socket.socket) -> bool:
    try:
        return bool(probe.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
