"""A running guest as the layers above see it: programs, sockets and files; no ssh, no hypervisor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GUEST_HOME = "/var/lib/hostvm/root"
"""Home of the guest's root; at /root, which shows the same, a folder of this computer may be mounted."""
DOCKER_CONFIG = f"{GUEST_HOME}/.docker"
"""Where docker's client in the guest has its settings and logins."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished guest command; `status` is 128+n when signal n ended it."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Pty:
    """A terminal to allocate: its TERM and size in character cells."""

    term: str
    rows: int
    columns: int


class Stream(Protocol):
    """A two-way byte stream into the guest (a socket there). All calls block; any thread may call any of them."""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at end of stream."""

    def sendall(self, data: bytes) -> None:
        """Write all of it.

        :raises OSError: the other end is gone.
        """

    def shutdown_write(self) -> None:
        """Half-close: the guest's reader sees end of file."""

    def close(self) -> None:
        """Close both directions. Idempotent."""


class GuestStream(Stream, Protocol):
    """A stream that knows how it ended."""

    @property
    def lost(self) -> bool:
        """Whether it was cut off: closed before the guest said end of file."""


class GuestProcess(Protocol):
    """A program running in the guest, its streams binary-safe and apart (with a pty: all in stdout).

    With a lost connection both outputs end, and `wait` tells; only `write_stdin` raises besides.
    """

    def write_stdin(self, data: bytes) -> None:
        """Blocks while the guest program does not read. OSError when it is gone."""

    def close_stdin(self) -> None:
        """End of file for the program. Idempotent."""

    def read_stdout(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end."""

    def read_stderr(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end."""

    def signal(self, name: str) -> None:
        """Send a signal by its name without SIG: HUP INT KILL QUIT TERM USR1 USR2."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the pty its new size; nothing without a pty."""

    def wait(self) -> int:
        """The exit status (128+n for signal n); call after both outputs are drained or from another thread.

        :raises SshError: the connection went away first.
        """

    def close(self) -> None:
        """Let go; a program still running gets HUP."""


class Guest(Protocol):
    """Implemented by `hostvm.ssh.connection.Connection`."""

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Run one argv exactly and collect its output. A non-zero status is not an error.

        :raises SshError: the connection is gone, `timeout` seconds passed, or it wrote more than 64 MiB (in both cases
            the program is killed).
        """

    def stream(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pty: Pty | None = None,
    ) -> GuestProcess:
        """Start one argv; a `cwd` that does not exist in the guest falls back to the home folder.

        :raises SshError: the connection is gone.
        """

    def open_socket(self, path: str) -> Stream:
        """Connect to a Unix socket in the guest.

        :raises OSError: nothing listens there.
        """

    def accept_socket(self, path: str, serve: Callable[[GuestStream], None]) -> None:
        """Listen on a Unix socket in the guest as long as the connection lives.

        :param serve: called with each connection in a thread of its own; closes it.
        :raises OSError: the connection is gone.
        """

    def open_tcp(self, host: str, port: int) -> GuestStream:
        """Connect from inside the guest.

        :raises OSError: refused.
        """
