"""Reaching a local socket before Python's socket module is loaded: 3 ms of every forwarded command."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    import _socket


def connect_quick(path: str) -> _socket.socket:
    """Connect to a `LocalListener`, as `connect_local` does.

    :raises OSError: nobody listens.
    """
    if sys.platform == "win32":
        from hostvm.platform.local import connect_local

        return connect_local(path)
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
