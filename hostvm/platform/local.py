"""Sockets that only this user's programs can reach.

On Linux and macOS a Unix socket, 0600. CPython has no Unix sockets on Windows: there a file of that name, in the
user's own profile, holds a loopback port and a token that every connection must begin with.
Imports nothing heavy: the forwarding client needs it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time

_TOKEN_BYTES = 32
_TOKEN_SECONDS = 2.0
_BACKLOG = 256
_CUT = 5
_CONNECT_SECONDS = 10.0
_FULL_PAUSE = 0.02


class LocalListener:
    """A listening local socket that replaces whatever lay at `path`.

    On Linux and macOS it does so at once: whoever connects reaches the one before or this one.

    :raises OSError: it cannot be made (a path over the system's limit, a folder that is missing).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.closed = False
        self._token = b""
        if sys.platform == "win32":
            _unlink(path)
            self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
            self._token = os.urandom(_TOKEN_BYTES // 2).hex().encode()
            port = self._socket.getsockname()[1]
            with open(path, "wb", opener=_open_private) as file:
                file.write(b"%d %s" % (port, self._token))
        else:
            beside = _beside(path)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.bind(beside)
                os.chmod(beside, 0o600)  # noqa: PTH101 - before listen(), so nobody connects in between
                self._socket.listen(_BACKLOG)
                os.replace(beside, path)  # noqa: PTH105 - no pathlib on the forwarding path
            except OSError:
                self._socket.close()
                _unlink(beside)
                raise
        self._file = _identity(path)

    @property
    def replaced(self) -> bool:
        """Whether another listener has the path by now, or nothing is there."""
        return _identity(self.path) != self._file

    def accept(self) -> socket.socket:
        """The next connection, its token not checked yet: see `admit`.

        :raises OSError: the listener was closed.
        """
        connection, _ = self._socket.accept()
        if self.closed:
            connection.close()
            raise ConnectionAbortedError("the listener was closed")
        return connection

    def admit(self, connection: socket.socket) -> bool:
        """Whether the connection may be served; to be called in its own thread, since it may wait for the token."""
        if not self._token:
            return True
        import hmac

        connection.settimeout(_TOKEN_SECONDS)
        try:
            sent = b""
            while len(sent) < _TOKEN_BYTES and (more := connection.recv(_TOKEN_BYTES - len(sent))):
                sent += more
        except OSError:
            return False
        connection.settimeout(None)
        return hmac.compare_digest(sent, self._token)

    def close(self) -> None:
        """Stop listening, wake `accept` and remove the file, unless another listener has replaced it. Idempotent."""
        self.closed = True
        close_listener(self._socket, self.path)
        if not self.replaced:
            _unlink(self.path)


def connect_local(path: str, seconds: float = _CONNECT_SECONDS) -> socket.socket:
    """Connect to a `LocalListener`.

    :raises OSError: nobody listens: there is no such file, or it is a dead listener's.
    :raises TimeoutError: one does, but took nobody from its full queue for so long.
    """
    if sys.platform == "win32":
        with open(path, "rb") as file:  # noqa: PTH123 - no pathlib on the forwarding path
            port, _, token = file.read(256).partition(b" ")
        try:
            number = int(port)
        except ValueError as error:
            raise ConnectionRefusedError(path) from error
        connection = socket.create_connection(("127.0.0.1", number), seconds)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(token)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(connection, path, time.monotonic() + seconds)
    except OSError:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: str, deadline: float) -> None:
    """Linux lets a client wait for ever where the queue is full, or refuses at once if it may not; macOS refuses."""
    connection.settimeout(0.0)
    while True:
        try:
            connection.connect(path)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the listener takes no connections", path) from error
            time.sleep(_FULL_PAUSE)
        else:
            connection.settimeout(None)
            return


def close_listener(listener: socket.socket, path: str | None = None) -> None:
    """Close a listening socket and wake the thread that waits in its accept(). Idempotent.

    :param path: of a Unix socket that was renamed after it was bound.
    """
    with contextlib.suppress(OSError):
        address = listener.getsockname()
        if path is not None and sys.platform != "win32":
            address = path
        try:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux; an error elsewhere
        except OSError:
            with socket.socket(listener.family) as waker:
                waker.settimeout(0.2)
                waker.connect(address)
    listener.close()


def _beside(path: str) -> str:
    """A new name in the same folder, no longer than `path`, whose length the system limits.

    Of each listener its own: of two that came at the same moment, one replaced `path` by what the other had just bound
    and did not listen at yet, and that one removed its socket when it found its name gone.
    """
    cut = min(_CUT, len(os.path.basename(path)))  # noqa: PTH119 - no pathlib on the forwarding path
    return path[:-cut] + os.urandom(_CUT).hex()[:cut]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - no pathlib on the forwarding path
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _unlink(path: str) -> None:
    # Windows removes no file that somebody reads at this moment, as each client does that looks for a listener. One
    # that stays is overwritten by the next listener, and leads to nobody until then.
    with contextlib.suppress(FileNotFoundError, *([PermissionError] if sys.platform == "win32" else [])):
        os.unlink(path)  # noqa: PTH108 - no pathlib on the forwarding path


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
