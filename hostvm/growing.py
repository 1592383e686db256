"""Files that others append to, read on from where the last look ended."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIECE = 64 * 1024
_HEAD = 128


class Growing:
    """A file that grows. One that was begun anew is read from its start: it is shorter, or begins with other words.

    :param before: the file that what it held then was moved or copied to; what of that was not read yet comes first.
    :ivar place: of the byte that is read next.
    :ivar begun: how often the file was begun anew.
    """

    def __init__(self, path: Path, before: Path | None = None) -> None:
        self._path = path
        self._before = before
        self._head = b""
        self.place = 0
        self.begun = 0

    def skip(self) -> None:
        """Only what comes from now on is wanted. A file that is not there yet is wanted whole."""
        with suppress(OSError), self._path.open("rb") as file:
            self._head = file.read(_HEAD)
            self.place = file.seek(0, os.SEEK_END)

    def pieces(self) -> Iterator[bytes]:
        """What has come since the last look, up to where the file ends now; at most 64 KiB at once.

        :raises OSError: it cannot be read.
        """
        with self._path.open("rb") as file:
            head = file.read(_HEAD)
            end = file.seek(0, os.SEEK_END)
            if end < self.place or not head.startswith(self._head):
                yield from self._rest()
                self.begun += 1
                self.place = 0
            self._head = head
            file.seek(self.place)
            while data := file.read(min(PIECE, end - self.place)):
                self.place += len(data)
                yield data

    def _rest(self) -> Iterator[bytes]:
        if self._before is None or not self._head:
            return
        with suppress(OSError), self._before.open("rb") as file:
            if file.read(_HEAD).startswith(self._head):
                file.seek(self.place)
                while data := file.read(PIECE):
                    yield data
