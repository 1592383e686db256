"""How long work reports itself without printing.

Work functions take a `Progress`; `cli` renders it with rich on a terminal, as plain lines elsewhere, or not at
all. Totals and advances are bytes when `unit` is "B", otherwise plain counts.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Task(Protocol):
    """One bar."""

    def advance(self, amount: int) -> None:
        """Add `amount` (bytes or items) to what is done."""


class Progress(Protocol):
    """Where work reports to."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """A named step of unknown length; its elapsed time is shown at the end."""

    def task(self, name: str, total: int | None, unit: str = "") -> AbstractContextManager[Task]:
        """A bar of `total` (None: unknown) bytes (unit "B") or items."""

    def note(self, text: str) -> None:
        """One line the user should see once."""

    def doing(self, text: str) -> None:
        """What the step that runs is at now; on a terminal it replaces what was there before."""


class _NullTask:
    def advance(self, amount: int) -> None:
        del amount


class NullProgress:
    """Reports to nobody."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        del name
        yield

    @contextmanager
    def task(self, name: str, total: int | None, unit: str = "") -> Iterator[Task]:
        del name, total, unit
        yield _NullTask()

    def note(self, text: str) -> None:
        del text

    def doing(self, text: str) -> None:
        del text
