"""A shell in the guest that waits for the next command, so that sshd's fork and the shell's start are over by then.

Why, and what it costs: docs/adr/0005-agent-with-one-connection.md.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostvm.ssh.channel import GuestChannel
    from hostvm.ssh.transport import GuestTransport

_WAITING = b'IFS= read -r line && eval "$line"'
# The shell reads its line byte by byte, to leave what follows to the program.
_LONGEST = 4096


class WaitingShell:
    """At most one shell on a connection. Any thread may call anything."""

    def __init__(self, transport: GuestTransport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._channel: GuestChannel | None = None
        # Words sent before the request for the shell would be lost. Set by the reader, which must not wait for locks.
        self._begun: GuestChannel | None = None

    def take(self, text: bytes) -> GuestChannel | None:
        """The channel of the shell, which has been told `text`; None: there is no shell, or none for such a text."""
        if len(text) > _LONGEST or b"\n" in text or not text.isascii():
            return None
        with self._lock:
            channel = self._channel
            if channel is None or channel is not self._begun:
                return None
            self._channel = None
        if not _lives(channel):
            return None
        try:
            channel.sendall(text + b"\n")
        except OSError:
            return None
        return channel

    def prepare(self) -> None:
        """Have a shell wait, if none does. Returns at once; a connection that is gone is no matter."""
        with self._lock, contextlib.suppress(ConnectionError):
            if self._channel is None or (self._channel.answered.is_set() and not _lives(self._channel)):
                self._channel = self._transport.begin_session(self._begin)

    def _begin(self, channel: GuestChannel) -> None:
        channel.request("exec", _WAITING, reply=True)
        self._begun = channel


def _lives(channel: GuestChannel) -> bool:
    return bool(channel.active) and not channel.closed and not channel.status_event.is_set()
