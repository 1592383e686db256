"""Looks at folders of this computer by which nobody may be held up: of a disk that does not answer none returns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 1.0


class Renewal:
    """Has `look` called in a thread of its own, one at a time."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def now(self) -> None:
        """Look, and wait for that for a second at most; not at all while an earlier one has not come back."""
        with self._lock:
            if self._worker is not None and self._worker.is_alive():
                return
            worker = self._worker = threading.Thread(target=self._look, name="shares-renewal", daemon=True)
            worker.start()
        worker.join(_SECONDS)
