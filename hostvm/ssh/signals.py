"""Signals: their statuses, and that they reach a program although it has only just been asked for.

sshd passes a signal to the program's process group, which is there some milliseconds after sshd's fork: until then it
finds none, and the signal is lost. It is asked whether it was passed, which OpenSSH says, and told again until it was.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostvm.ssh.channel import GuestChannel

SECONDS = 10.0
"""How long a signal that is refused is sent again; it may be one to a program of another user, too."""

_PAUSE, _PAUSE_MOST = 0.01, 0.5

_SIGNALS = {
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "TRAP": 5,
    "ABRT": 6,
    "BUS": 7,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
    "SYS": 31,
}


def signal_status(name: str) -> int:
    """128+n for Linux's signal of that name; 255 for one ssh does not name.

    OpenSSH sends others as `SIG@openssh.com`.
    """
    number = _SIGNALS.get(name)
    return 255 if number is None else 128 + number


def send(channel: GuestChannel, name: str) -> None:
    """Send a signal by its name without SIG; returns at once. The channel's CLOSE waits until it has arrived.

    Nothing is sent to a program that has ended, or on a channel that is closed.
    """
    if not channel.closed:
        _Signal(channel, name).send()


class _Signal:
    def __init__(self, channel: GuestChannel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._until = time.monotonic() + SECONDS
        self._pause = _PAUSE

    def send(self) -> None:
        self._channel.hold()
        self._ask()

    def _ask(self) -> None:
        with contextlib.suppress(ConnectionError):  # `wait` tells of it
            self._channel.ask(self._answered, "signal", self._name)

    def _answered(self, passed: bool) -> None:  # noqa: FBT001 - the reader calls it, which must not wait
        if passed or self._channel.program_over or time.monotonic() > self._until:
            self._channel.let_go()
            return
        again = threading.Timer(self._pause, self._ask)
        again.name, again.daemon = "signal", True
        self._pause = min(self._pause * 2, _PAUSE_MOST)
        try:
            again.start()
        except RuntimeError:  # no thread can be had
            self._channel.let_go()
