"""Reaching a local socket before Python's socket module is loaded: 3 ms of every forwarded command."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    import _socket


def connect_quick(path: str, seconds: float = 10.0) -> _socket.socket:
    """Connect to a `LocalListener`, as `connect_local` does.

    :raises OSError: nobody listens.
    :raises TimeoutError: one does, but took nobody from its full queue for so long.
    """
    if sys.platform == "win32":
        from hostvm.platform.local import connect_local

        return connect_local(path, seconds)
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(0.0)
    try:
        connection.connect(path)
    except BlockingIOError:  # a full queue
        connection.close()
        from hostvm.platform.local import connect_local

        return connect_local(path, seconds)
    except OSError:
        connection.close()
        raise
    connection.settimeout(None)
    return connection
