"""Deletions that a guest was told by a connection that broke, and has not answered.

It may have stood still with them for minutes, and make them when it goes on, by a name that another file has by then.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostvm.shares.known import Known

_LAST_ACTS = 90.0
"""For so many seconds after it is reached again the guest may still make what it was told before: TCP, which carried
that, tries once a minute in the end."""


class Unanswered:
    """Lets the servers play along with them until the guest is reached again, and for a while after that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._burials: list[tuple[Known, str]] = []

    def add(self, known: Known, path: str) -> None:
        """One more."""
        with self._lock:
            self._burials.append((known, path))

    def reached(self) -> None:
        """The guest goes on: what it has not made a while later it never will."""
        with self._lock:
            burials, self._burials = self._burials, []
        if burials:
            end = threading.Timer(_LAST_ACTS, _settle, [burials])
            end.daemon = True
            end.start()


def _settle(burials: list[tuple[Known, str]]) -> None:
    for known, path in burials:
        known.settle(path)
