"""The guest's console is kept short while the machine runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hostvm.drivers.consoles import cut_console, previous_console

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_EVERY = 5.0


class ConsoleKeeper:
    """Looks at the console's file every few seconds, from now until it is closed."""

    def __init__(self, console: Path, log: Callable[[str], None]) -> None:
        self._console = console
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        told = False
        while not self._over.wait(_LOOK_EVERY):
            try:
                if cut_console(self._console):
                    self._log(f"the guest's console was cut; what it said before: {previous_console(self._console)}")
            except OSError as error:
                if not told:
                    self._log(f"the guest's console cannot be cut: {error}")
                told = True
