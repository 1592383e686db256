"""Containers that are to run whenever their machine does, as an upgrade sees them; implemented by engines."""

from __future__ import annotations

from typing import Protocol


class Residents(Protocol):
    """Containers that are to come back by themselves."""

    def note(self) -> None:
        """Remember those that run now.

        :raises HostvmError: the engine does not answer.
        """

    def missing(self) -> list[str]:
        """Names of those that do not run again, which are waited for.

        :raises HostvmError: the engine does not answer.
        """
