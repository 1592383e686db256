"""The accept loop of every local socket: a thread that waits, and one for each connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hostvm.platform.local import LocalListener


def serve_each(listener: LocalListener, serve: Callable[[socket.socket], None], name: str) -> None:
    """Begin to accept; each admitted connection goes to `serve`, which closes it. Ends when `listener` is closed."""

    def admit(sock: socket.socket) -> None:
        if listener.admit(sock):
            serve(sock)
        else:
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock = listener.accept()
            except OSError:
                return
            threading.Thread(target=admit, args=(sock,), name=f"{name}-connection", daemon=True).start()

    threading.Thread(target=accept, name=name, daemon=True).start()
