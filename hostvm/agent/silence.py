"""A guest that runs while its ssh server does not answer: its init starts a dead one again, unless that fails, too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hostvm.console import SSH_MARK, ConsoleMark, WayDown
from hostvm.errors import SshError

if TYPE_CHECKING:
    from pathlib import Path

TOLD_AFTER, TOLD_AFTER_BOOT = 10.0, 30.0
"""Seconds: a busy emulated guest takes some to start sshd again, and more to answer for the first time."""


class Silence:
    """Since when nothing has come from a ssh server that the guest announced in this boot.

    One thread looks; any may ask for `since`.
    """

    def __init__(self, name: str, console: Path) -> None:
        self._name = name
        self._announced = ConsoleMark(console, SSH_MARK)
        self._console = console
        self._way_down = WayDown(console)
        self._begun: float | None = None
        self.since = ""
        """When it began, by this computer's clock; "" while it is not worth a word."""

    def look(self, told_after: float = TOLD_AFTER) -> float:
        """Look again; its seconds so far. A guest that boots anew has announced nothing yet, one that goes down
        needs to say nothing.

        :param told_after: seconds until it is worth a word.
        """
        now = time.monotonic()
        if not self._console.exists() or not self._announced.seen() or self._way_down.begun():
            self.over()
            return 0.0
        if self._begun is None:
            self._begun = now
        silent = now - self._begun
        if silent >= told_after and not self.since:
            self.since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - silent))
        return silent

    def over(self) -> None:
        """It spoke, or need not yet."""
        self._begun, self.since = None, ""

    def words(self) -> str:
        """For whoever waits; "" while it is not worth a word."""
        return f"{silent_words(self.since)}: hostvm restart {self._name}" if self.since else ""

    def error(self, port: int) -> SshError:
        """What to tell whoever waited in vain."""
        return SshError(
            f"machine {self._name} runs, but its ssh server does not answer",
            f"since {self.since} nothing spoke on 127.0.0.1:{port}",
            f"hostvm restart {self._name}",
        )


def silent_words(since: str) -> str:
    """The same for `status` and `doctor`."""
    return f"it runs, but its ssh server has not answered since {since}"
