"""How long to go on with a server that fails, and when to ask it again: also where it says so, by `Retry-After`.

https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3. Imports no requests, which takes 40 ms.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

WAIT_MOST = 60.0
"""Seconds that are waited at a server's wish; who asks for more is asked again then, or given up."""

LOOK = 0.5
"""Seconds in which whoever waits hears that it is not wanted any more."""


class _Waits:
    """How many threads wait now: one of them tells of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[bool]:
        """Whether no other does."""
        with self._lock:
            first, self._count = self._count == 0, self._count + 1
        try:
            yield first
        finally:
            with self._lock:
                self._count -= 1


def _nobody(text: str) -> None:
    del text


def _go_on() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try without coming further. Seconds; a failed attempt waits pause, 2·pause, 4·pause, …, and none
    begins after `deadline`.

    :param note: is told of a wait that a server asked for.
    """

    attempts: int = 5
    pause: float = 0.5
    deadline: float = 1800.0
    sleep: Callable[[float], None] = time.sleep
    note: Callable[[str], None] = _nobody
    waits: _Waits = field(default_factory=_Waits, compare=False, repr=False)

    def is_over(self, number: int, started: float, error: Exception) -> bool:
        """Whether attempt `number` was the last one.

        :param started: when the first one began, on `time.monotonic`'s clock.
        """
        wait = min(asked_of(error), WAIT_MOST)
        return number >= self.attempts or time.monotonic() - started + wait > self.deadline

    def rest(self, seconds: float, url: str, error: Exception, check: Callable[[], object] = _go_on) -> None:
        """Wait before the next attempt: so many seconds, or as long as the server of `url` asks for.

        :param check: called twice a second of a long wait; raises where nothing is to be waited for any more.
        """
        wait = min(asked_of(error), WAIT_MOST)
        if wait <= seconds:
            self.sleep(seconds)
            return
        with self.waits.one() as first:
            if first:
                host = urlsplit(url).netloc.rpartition("@")[2]
                self.note(f"{host} asks to wait: {error}; the next try is in {wait:.0f} s, what came so far is kept")
            while wait > 0:
                check()
                self.sleep(min(wait, LOOK))
                wait -= LOOK


def asked_of(error: Exception) -> float:
    """Seconds in which whoever gave the answer that an error is about asks not to be asked; 0: it asks for none."""
    response = getattr(error, "response", None)
    return 0.0 if response is None else asked_wait(response.headers)


def asked_wait(headers: Mapping[str, str]) -> float:
    """The same of an answer's fields: `Retry-After: 120`, or a date."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said[:9])
    try:
        date = parsedate_to_datetime(said)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, math.ceil(date.timestamp() - time.time()))
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return 0.0  # empty, or no date


def status_text(response: requests.Response) -> str:
    """What an answer says that is no success: its status, and how long it wants nothing else where that is long."""
    asked = asked_wait(response.headers)
    late = f", and nothing else for {asked:.0f} s" if asked > WAIT_MOST else ""
    return f"{response.status_code} {response.reason}{late}"
