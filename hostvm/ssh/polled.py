"""A stream of the guest's that is asked, not waited for: a thread can serve hundreds of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hostvm.ssh.process import PIECE

if TYPE_CHECKING:
    from hostvm.ssh.channel import GuestChannel


class PolledStream:
    """A channel that may still be opening. For one thread; nothing here waits for the guest, but for room in the
    connection itself.
    """

    def __init__(self, channel: GuestChannel) -> None:
        channel.settimeout(0.0)
        self._channel = channel

    def is_open(self) -> bool:
        """Whether the guest has opened it.

        :raises ConnectionError: it has refused, or cannot be heard of any more.
        """
        channel = self._channel
        if channel.open_failure is not None:
            raise ConnectionRefusedError(channel.open_failure)
        if channel.active:
            return True
        if channel.closed:
            raise ConnectionError("the ssh connection was lost")
        return False

    @property
    def lost(self) -> bool:
        """Whether it was cut off: closed before the guest said end of file."""
        return self._channel.closed and not self._channel.eof_received

    def take(self, size: int) -> bytes | None:
        """Up to `size` bytes that have come; b"" at the end, None while there are none."""
        try:
            return self._channel.recv(size)
        except TimeoutError:
            return None

    def put(self, data: memoryview) -> int:
        """Send as much as the guest has given room for; how much that was.

        :raises OSError: the guest takes no more.
        """
        sent = 0
        while sent < len(data):
            try:
                size = self._channel.send(bytes(data[sent : sent + PIECE]))
            except TimeoutError:
                break
            if size == 0:  # paramiko's word for "closed"
                raise BrokenPipeError("the channel is closed")
            sent += size
        return sent

    def shutdown_write(self) -> None:
        """End of file for the guest. A connection that is gone is no matter: `take` tells."""
        if not self._channel.closed:
            with contextlib.suppress(OSError):
                self._channel.shutdown_write()

    def close(self) -> None:
        """Hang up; what is not open yet is closed when it is. Idempotent."""
        self._channel.abandoned = True
        self._channel.close()
