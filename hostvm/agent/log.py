"""The agent's log: one line an event, cut over to a fresh file before it grows without bound."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

_MOST = 5 * 1024 * 1024


class AgentLog:
    """Appends to `path` (0600); past 5 MB it becomes `path.1` and a new one begins.

    :param capture: whether standard output and error go there too, so that an interpreter's last words are kept.
    """

    def __init__(self, path: str, *, capture: bool = False, most: int = _MOST) -> None:
        self._path = Path(path)
        self._capture = capture
        self._most = most
        self._lock = threading.Lock()
        self._file = self._open()

    def __call__(self, text: str) -> None:
        """One line (newlines inside are kept, indented)."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{stamp} {text}".replace("\n", "\n    ")
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            if self._file.tell() > self._most:
                self._turn()

    def _open(self) -> TextIO:
        file = open(self._path, "a", encoding="utf-8", errors="replace", opener=_open_private)  # noqa: SIM115
        if self._capture:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        return file

    def _turn(self) -> None:
        if sys.platform == "win32":  # an open file cannot be renamed there
            self._file.truncate(0)
            return
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._open()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
