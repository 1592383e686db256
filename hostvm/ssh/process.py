"""A program, or a socket, at the other end of an ssh channel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hostvm.errors import SshError
from hostvm.ssh import signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.ssh.channel import GuestChannel

PIECE = 32 * 1024 - 64
"""Bytes: less than ssh's 32 KiB packet, so that one send is one packet and nothing is copied twice."""


class _ChannelWriter:
    def __init__(self, channel: GuestChannel) -> None:
        self._channel = channel

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        offset = 0
        while offset < len(view):
            if self._channel.reader_gone:
                raise BrokenPipeError("the program in the guest reads no more")
            try:
                sent = self._channel.send(bytes(view[offset : offset + PIECE]))
            except OSError as error:
                if isinstance(error, ConnectionError) or not self._channel.closed:
                    raise
                raise BrokenPipeError("the channel is closed") from error  # paramiko has heard of it by now
            if sent == 0:  # paramiko's word for "closed while waiting"; its own sendall would loop for ever
                raise BrokenPipeError("the channel is closed")
            offset += sent

    def _end_writing(self) -> None:
        if not self._channel.closed:
            self._channel.shutdown_write()


class SshStream(_ChannelWriter):
    """Implements `hostvm.guest.Stream`."""

    @property
    def lost(self) -> bool:
        """Whether it was cut off: closed before the guest said end of file."""
        return self._channel.closed and not self._channel.eof_received

    def recv(self, size: int) -> bytes:
        """See `Stream.recv`."""
        return self._channel.recv(size)

    def sendall(self, data: bytes) -> None:
        """See `Stream.sendall`."""
        self._write(data)

    def shutdown_write(self) -> None:
        """See `Stream.shutdown_write`."""
        self._end_writing()

    def close(self) -> None:
        """See `Stream.close`."""
        self._channel.close()


class SshProcess(_ChannelWriter):
    """Implements `hostvm.guest.GuestProcess`."""

    def __init__(self, channel: GuestChannel, *, has_pty: bool, when_closed: Callable[[], None] = lambda: None) -> None:
        super().__init__(channel)
        self._has_pty = has_pty
        self._when_closed = when_closed

    def write_stdin(self, data: bytes) -> None:
        """See `GuestProcess.write_stdin`."""
        self._write(data)

    def close_stdin(self) -> None:
        """See `GuestProcess.close_stdin`."""
        self._end_writing()

    def read_stdout(self, size: int) -> bytes:
        """See `GuestProcess.read_stdout`."""
        return self._channel.recv(size)

    def read_stderr(self, size: int) -> bytes:
        """See `GuestProcess.read_stderr`."""
        return self._channel.recv_stderr(size)

    def signal(self, name: str) -> None:
        """See `GuestProcess.signal`. sshd passes it to the program's process group."""
        signals.send(self._channel, name)

    def resize(self, rows: int, columns: int) -> None:
        """See `GuestProcess.resize`."""
        if self._has_pty:
            with contextlib.suppress(ConnectionError):  # `wait` tells of it
                self._channel.request("window-change", columns, rows, 0, 0)

    def wait(self) -> int:
        """See `GuestProcess.wait`."""
        channel = self._channel
        channel.status_event.wait()
        if channel.exit_signal is not None:
            return signals.signal_status(channel.exit_signal)
        if channel.exit_status >= 0:
            return channel.exit_status
        transport = channel.get_transport()
        if not transport.is_active():
            raise SshError(
                "the connection to the guest was lost while the program ran",
                "what became of the program is not known; containers are not touched by this",
                "hostvm status   # shows whether the machine still runs",
            )
        raise SshError(
            "the program's exit status was lost",
            "the guest's sshd refused the program, or was killed with it",
            "hostvm status   # shows whether the machine still runs",
        )

    def abort(self) -> None:
        """Kill the program and let go at once."""
        self.signal("KILL")
        self.close()

    def close(self) -> None:
        """See `GuestProcess.close`."""
        if not self._channel.closed and not self._channel.status_event.is_set():
            self.signal("HUP")
        self._channel.close()
        self._when_closed()
