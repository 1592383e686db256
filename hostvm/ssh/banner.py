"""Waiting for sshd through a forward that accepts before the guest listens."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from hostvm.errors import SshError

if TYPE_CHECKING:
    from collections.abc import Callable

# QEMU's user network accepts a connection at once and only then tries the guest. While nothing listens there the
# connection ends at once; while the guest has no network yet it stays silent, and its retries come seconds apart.
# So a silent connection is given up for a fresh one, each with twice the patience of the one before: every attempt
# makes sshd fork, and a busy emulated guest that is asked again and again would never get to answer.
_PAUSE = 0.02
_PATIENCE, _PATIENCE_ANNOUNCED, _PATIENCE_MOST = 0.5, 4.0, 16.0
_UNANNOUNCED = 20.0  # a guest whose console says nothing for so long is tried all the same
_SLICE = 0.1


def wait_banner(
    port: int,
    deadline: float,
    host: str = "127.0.0.1",
    *,
    announced: Callable[[], bool] | None = None,
    check: Callable[[], None] | None = None,
) -> socket.socket:
    """A connected socket on which sshd has begun to speak, its banner still unread.

    :param deadline: on `time.monotonic`'s clock.
    :param announced: whether the guest has said that its sshd starts; nothing is tried before.
    :param check: called some ten times a second; what it raises ends the waiting.
    :raises SshError: nothing spoke before the deadline.
    """
    begun = time.monotonic()
    patience = _PATIENCE
    while (now := time.monotonic()) < deadline:
        if check is not None:
            check()
        if announced is not None:
            if announced():
                patience = max(patience, _PATIENCE_ANNOUNCED)
            elif now - begun < _UNANNOUNCED:
                time.sleep(_PAUSE)
                continue
        probe = _connect(host, port)
        if probe is None:
            time.sleep(_PAUSE)
        elif _speaks(probe, now + min(patience, deadline - now), check):
            return probe
        else:
            silent = time.monotonic() - now >= patience
            patience = min(patience * 2, _PATIENCE_MOST) if silent else patience
            time.sleep(_PAUSE)
    raise SshError(
        "the guest's ssh server did not answer in time",
        f"nothing spoke on {host}:{port}",
        "hostvm logs --console   # shows how far the guest got",
    )


def knock(port: int, seconds: float, host: str = "127.0.0.1") -> socket.socket | None:
    """A new connection on which sshd speaks within so many seconds, its banner still unread; None when it does not."""
    probe = _connect(host, port)
    if probe is None:
        time.sleep(seconds)
        return None
    return probe if _speaks(probe, time.monotonic() + seconds, None) else None


def _connect(host: str, port: int) -> socket.socket | None:
    try:
        probe = socket.create_connection((host, port), timeout=1.0)
    except OSError:
        return None  # the hypervisor does not listen yet
    probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return probe


def _speaks(probe: socket.socket, until: float, check: Callable[[], None] | None) -> bool:
    """Whether anything came before `until`; False as soon as the connection ends. A mute one is closed."""
    spoke = False
    probe.settimeout(_SLICE)
    try:
        while not spoke and time.monotonic() < until:
            if check is not None:
                check()
            try:
                if not probe.recv(1, socket.MSG_PEEK):
                    break
                spoke = True
            except TimeoutError:
                continue
            except OSError:
                break
    finally:
        if not spoke:
            probe.close()
    if spoke:
        probe.settimeout(None)
    return spoke
