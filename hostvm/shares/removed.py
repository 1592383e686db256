"""What was shared with a guest of this boot and is no more: containers could write there, and may have put links."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from hostvm.files import write_atomic
from hostvm.shares.model import Mount

if TYPE_CHECKING:
    from pathlib import Path


class Removed:
    """Kept in a file, for the agents that follow; the next boot forgets it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._mounts = [Mount(**facts) for facts in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            self._mounts = []

    def mounts(self) -> list[Mount]:
        """All of them, as they were shared."""
        return list(self._mounts)

    def add(self, mount: Mount) -> None:
        """One more.

        :raises OSError: it cannot be written.
        """
        if mount not in self._mounts:
            self._mounts.append(mount)
            write_atomic(self._path, json.dumps([asdict(one) for one in self._mounts]).encode())
