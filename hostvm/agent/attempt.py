"""A new connection that is made while nobody knows yet whether it is needed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from hostvm.errors import SshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.ssh.connection import Connection


class Attempt:
    """Logs in on a socket, in a thread of its own, and warms the connection up.

    :param sock: on which sshd speaks.
    :param log_in: makes the connection, and closes the socket when it cannot.
    """

    def __init__(self, sock: socket.socket, log_in: Callable[[socket.socket], Connection]) -> None:
        self._sock = sock
        self._log_in = log_in
        self._lock = threading.Lock()
        self._made: Connection | None = None
        self._fault: Exception | None = None
        self._unwanted = False
        self._told = threading.Event()
        threading.Thread(target=self._run, name="attempt", daemon=True).start()

    @property
    def made(self) -> bool:
        """Whether the connection is there."""
        return self._made is not None

    @property
    def over(self) -> bool:
        """Whether it is there, or never will be."""
        return self._told.is_set()

    def wait(self, timeout: float) -> None:
        """Until it is `over`, or so many seconds passed."""
        self._told.wait(timeout)

    def connection(self) -> Connection:
        """What was made; waits for it.

        :raises SshError: it was closed.
        :raises Exception: why it could not be made.
        """
        self._told.wait()
        if self._fault is not None:
            raise self._fault
        if self._made is None:
            raise SshError("the ssh connection to the guest is not needed any more", None, "hostvm status")
        return self._made

    def close(self) -> None:
        """It is not needed. Returns at once; idempotent."""
        with self._lock:
            self._unwanted = True
            made = self._made
        if made is not None:
            made.close()
        else:
            with contextlib.suppress(OSError):  # ended meanwhile
                self._sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            made = self._log_in(self._sock)
        except Exception as fault:  # noqa: BLE001 - for whoever asks
            self._fault = fault
            self._told.set()
            return
        with self._lock:
            if not self._unwanted:
                self._made = made
        self._told.set()
        if self._made is None:
            made.close()
            return
        with contextlib.suppress(SshError):  # whoever uses it next finds out
            made.warm_up()
