"""Ways through the hypervisor's own network to ports of the guest: private ports of 127.0.0.1, made on first use."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

from hostvm.errors import HostvmError, PortTaken

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Forwards

_TRIES = 3
_AGAIN = 5.0
"""Seconds until a hypervisor that refused is asked again."""

_END_SECONDS = 2.0


class Rules:
    """Every forward of the machine's hypervisor but that to its sshd; those of a dead agent are removed.

    :param forwards: the hypervisor's; None when it has none (one on another computer).
    :param keep: host port of the forward to sshd.
    """

    def __init__(self, forwards: Forwards | None, keep: int, log: Callable[[str], None]) -> None:
        self._forwards = forwards
        self._keep = keep
        self._log = log
        self._made: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._refused_until = 0.0
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._clean = False
        self._thread = threading.Thread(target=self._work, name="port-rules", daemon=True)
        self._thread.start()

    @property
    def able(self) -> bool:
        """Whether the hypervisor has such ways at all."""
        return self._forwards is not None

    def find(self, protocol: str, guest_port: int) -> int | None:
        """The port of 127.0.0.1 that leads there; None while there is none."""
        with self._lock:
            return self._made.get((protocol, guest_port))

    def want(self, protocol: str, guest_port: int, then: Callable[[int | None], None]) -> None:
        """Call `then` with such a port, made if need be, or None when the hypervisor cannot; from any thread."""
        found = self.find(protocol, guest_port)
        if found is not None or self._forwards is None or time.monotonic() < self._refused_until:
            then(found)
            return
        self._jobs.put(lambda: then(self._make(protocol, guest_port)))

    def lost(self, protocol: str, guest_port: int) -> None:
        """Nothing listens at the port that was given: the hypervisor is another one than before (a restored guest)."""
        with self._lock:
            self._made.pop((protocol, guest_port), None)

    def drop(self, protocol: str, guest_port: int) -> None:
        """Remove it. Idempotent."""
        if self._forwards is not None:
            self._jobs.put(lambda: self._remove(protocol, guest_port))

    def close(self) -> None:
        """Remove all and end; a hypervisor that has ended is no matter."""
        for protocol, guest_port in list(self._made):
            self.drop(protocol, guest_port)
        self._jobs.put(None)
        self._thread.join(_END_SECONDS)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _make(self, protocol: str, guest_port: int) -> int | None:
        found = self.find(protocol, guest_port)
        if found is not None:
            return found
        try:
            self._clear()
            port = self._add(protocol, guest_port)
        except (HostvmError, OSError) as error:
            self._refused_until = time.monotonic() + _AGAIN
            self._log(f"ports: no quick way to port {guest_port}/{protocol} of the guest: {error}".replace("\n", ": "))
            return None
        with self._lock:
            self._made[(protocol, guest_port)] = port
        return port

    def _add(self, protocol: str, guest_port: int) -> int:
        assert self._forwards is not None
        for left in reversed(range(_TRIES)):
            port = _free(protocol)
            try:
                self._forwards.add(protocol, port, guest_port)
            except PortTaken:
                if not left:
                    raise
            else:
                return port
        raise AssertionError("unreachable")

    def _clear(self) -> None:
        """Once: what an agent that was killed has left."""
        assert self._forwards is not None
        if self._clean:
            return
        for protocol, port in self._forwards.listed():
            if (protocol, port) != ("tcp", self._keep):
                self._forwards.remove(protocol, port)
        self._clean = True

    def _remove(self, protocol: str, guest_port: int) -> None:
        assert self._forwards is not None
        with self._lock:
            port = self._made.pop((protocol, guest_port), None)
        if port is not None:
            with contextlib.suppress(HostvmError, OSError):  # it is off, or gone already
                self._forwards.remove(protocol, port)


def _free(protocol: str) -> int:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
