"""Whether a machine is in use, as its agent sees it: commands and connections that are open, and what services tell."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from hostvm.agent.service import Uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hostvm.agent.service import Service


class LeavingError(Exception):
    """The agent is about to end; nothing new may begin."""


class Activity:
    """Counts what is open, and the seconds since the last of it ended.

    :param services: those that implement `Uses` are asked, too.
    """

    def __init__(self, services: Sequence[Service] = ()) -> None:
        self._asked = [service for service in services if isinstance(service, Uses)]
        self._lock = threading.Lock()
        self._open = 0
        self._last = time.monotonic()
        self._leaving = False

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """One command or connection, open for the length of the block.

        :raises LeavingError: `leave` was agreed to.
        """
        with self._lock:
            if self._leaving:
                raise LeavingError
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                self._last = time.monotonic()

    @property
    def leaving(self) -> bool:
        """Whether `leave` was agreed to."""
        return self._leaving

    def idle(self) -> float:
        """Seconds without any use, 0 while there is one. Use that only services know of ends when it is asked for."""
        with self._lock:
            return self._idle()

    def serves(self) -> bool:
        """Whether a command or connection is open now."""
        return self._open > 0

    def leave(self, after: float) -> bool:
        """Whether the machine has been idle for `after` seconds; if so, no use begins any more."""
        with self._lock:
            self._leaving = self._leaving or self._idle() >= after
            return self._leaving

    def _idle(self) -> float:
        if self._open or any(service.in_use() for service in self._asked):
            self._last = time.monotonic()
        return time.monotonic() - self._last
