"""Letting go of files that were removed: at their last descriptor the disk frees them, which can wait for its journal.

Who removes a file does not wait for that: while it is held, its name goes at once, and what follows is a thread's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hostvm.shares.tree import Tree

_MOST = 32
"""Descriptors that wait; beyond it each is closed at once."""

_BEGUN = 16
_BYTES_MOST = 256 * 1024
"""Larger files are freed at once, or who makes room on a full disk would find none."""

_DELAY_SECONDS = 0.02
"""Several are closed one after the other: with each alone the two threads would take turns."""


def is_light(found: os.stat_result) -> bool:
    """Whether it may be freed a moment after it was removed."""
    return stat.S_ISREG(found.st_mode) and getattr(found, "st_blocks", 0) * 512 <= _BYTES_MOST


class Parting:
    """Descriptors of one share's files that have no name any more. Any thread may call anything; nothing raises."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._closing = 0
        self._worker: threading.Thread | None = None
        self._changed = threading.Condition()
        self._many = threading.Event()

    @contextlib.contextmanager
    def held(self, tree: Tree, path: str) -> Iterator[None]:
        """What is there can lose its name inside the block without being freed; Linux only."""
        held = None
        with contextlib.suppress(OSError):  # its removal tells it
            held = tree.hold_file(path)
        try:
            yield
        finally:
            if held is not None:
                self.close((held,))

    def close(self, descriptors: Iterable[int]) -> None:
        """Close them a moment later, or now where many wait."""
        for descriptor in descriptors:
            if not self._later(descriptor):
                _close(descriptor)

    def settle(self) -> None:
        """Wait until all are closed: a file system may show a file under another name until then (NFS, FUSE)."""
        if not self._waiting and not self._closing:
            return
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for descriptor in waiting:
            _close(descriptor)
        with self._changed:
            self._changed.wait_for(lambda: not self._closing)

    def _later(self, descriptor: int) -> bool:
        with self._changed:
            if len(self._waiting) >= _MOST:
                return False
            if self._worker is None:
                worker = threading.Thread(target=self._run, name="shares-parting", daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # there can be no more threads
                    return False
                self._worker = worker
            self._waiting.append(descriptor)
            if len(self._waiting) >= _BEGUN:
                self._many.set()
            return True

    def _run(self) -> None:
        while True:
            self._many.wait(_DELAY_SECONDS)
            self._many.clear()
            with self._changed:
                if not self._waiting:
                    self._worker = None
                    return
                waiting, self._waiting = self._waiting, []
                self._closing += 1
            for descriptor in waiting:
                _close(descriptor)
            with self._changed:
                self._closing -= 1
                self._changed.notify_all()


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # what closing tells (a quota) is of a file that nobody wants
        os.close(descriptor)
