"""The accept loop of every listener: a thread that waits, and one for each connection."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


NO_DESCRIPTORS_SECONDS = 0.2
"""Pause after an accept() that failed: those who wait get their turn when others end."""


class Listener(Protocol):
    """Where clients of this user connect: `LocalListener`, or on Windows `PipeListener`."""

    closed: bool

    def accept(self) -> Any:
        """The next connection, a `LocalEnd`; OSError once the listener is closed, and while it cannot be had."""
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

    accept_each(listener.accept, lambda: listener.closed, admit, name)


def accept_each(
    accept: Callable[[], Any], closed: Callable[[], bool], serve: Callable[[Any], None], name: str
) -> threading.Thread:
    """Begin to accept; each connection goes to `serve`, which closes it. Gives the thread, which ends when `closed`.

    An `accept` that fails otherwise (no descriptors left, no memory) is tried again, and a connection for which there
    can be no thread is dropped: both pass, and a thread that ended would leave a listener that nobody hears.

    :param accept: the next connection; OSError, also to wake it when the listener is closed.
    :param closed: whether the listener was closed by its owner; asked after an OSError only.
    """

    def run() -> None:
        while True:
            try:
                sock = accept()
            except ConnectionAbortedError:
                if closed():
                    return
                continue  # that client left, others wait
            except OSError:
                if closed():
                    return
                time.sleep(NO_DESCRIPTORS_SECONDS)
                continue
            try:
                threading.Thread(target=serve, args=(sock,), name=f"{name}-connection", daemon=True).start()
            except RuntimeError:
                sock.close()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def accept_from(listener: socket.socket, serve: Callable[[socket.socket], None], name: str) -> threading.Thread:
    """`accept_each` of a plain socket, until it is closed."""
    return accept_each(lambda: listener.accept()[0], lambda: listener.fileno() < 0, serve, name)
