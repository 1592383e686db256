"""The accept loop of every local socket: a thread that waits, and one for each connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener(Protocol):
    """Where clients of this user connect: `LocalListener`, or on Windows `PipeListener`."""

    def accept(self) -> Any:
        """The next connection, a `LocalEnd`; OSError once the listener is closed."""
        ...

    def admit(self, connection: Any, /) -> bool:
        """Whether it may be served; may block a little."""
        ...

    def close(self) -> None:
        """Stop listening and wake `accept`."""
        ...


def serve_each(listener: Listener, serve: Callable[[Any], None], name: str) -> None:
    """Begin to accept; each admitted connection goes to `serve`, which closes it. Ends when `listener` is closed."""

    def admit(sock: Any) -> None:
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
