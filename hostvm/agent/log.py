"""The agent's log: one line an event, cut over to a fresh file before it grows without bound."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO

_MOST = 5 * 1024 * 1024


class AgentLog:
    """Appends to `path` (0600); past 5 MB it becomes `path.1` and a new one begins.

    What cannot be written (a full disk) is dropped and counted, so that whoever logs goes on; the next line that can be
    tells how much is missing.

    :param capture: whether standard output and error go there too, so that an interpreter's last words are kept.
    :raises OSError: the file cannot be opened; nothing is raised later.
    """

    def __init__(self, path: str, *, capture: bool = False, most: int = _MOST) -> None:
        self._path = Path(path)
        self._capture = capture
        self._most = most
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False
        self._file: FileIO | None = self._open()

    def __call__(self, text: str) -> None:
        """One line (newlines inside are kept, indented). Never raises."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{stamp} {text}".replace("\n", "\n    ")
        with self._lock:
            missing = f"{stamp} lines that could not be written here: {self._lost}\n" if self._lost else ""
            try:
                self._write(f"{missing}{line}\n".encode(errors="replace"))
                self._lost = 0
            except (OSError, ValueError):  # ValueError: closed
                self._lost += 1
                return
            with contextlib.suppress(OSError, ValueError):
                self._turn()

    def _write(self, data: bytes) -> None:
        """Nothing stays in a buffer: it would grow for as long as the disk is full."""
        if self._file is None or self._file.closed:
            self._file = self._open()
        data = b"\n" * self._torn + data
        written = self._file.write(data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "only a part was written")

    def _open(self) -> FileIO:
        file = open(self._path, "ab", buffering=0, opener=_open_private)  # noqa: SIM115
        if self._capture:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        return file

    def _turn(self) -> None:
        if self._file is None or self._file.tell() <= self._most:
            return
        if sys.platform == "win32":  # an open file cannot be renamed there
            self._file.truncate(0)
            return
        file, self._file = self._file, None
        file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._open()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
