"""When what was written is on the disk.

An NFS client asks for that whenever a program closes a file, and cannot say that nobody called fsync. So a file that
was just made is written to the disk a moment later, or unpacking an archive would wait for the disk with each of them.
Where many are made, that moment is a shorter one.
Nothing that could build upon it is done before, though: no file that was there already is written, none renamed,
linked or removed. A computer that loses power has lost new files of the last moment, at most, and never one that
anything was based on; where one could not be put on the disk, the next such act fails.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FRESH_SECONDS = 10.0
_DELAY_SECONDS = 0.2
_WAITING_MOST = 32
"""Files that wait; beyond it each is waited for, so that a slow disk holds nobody up for long."""

_WAITING_BEGUN = 8
"""So many are not left to wait longer: the disk would stand still until there are the most, and then whoever makes
files quickly would wait for all of them."""

_REMEMBERED_MOST = 1000
_TOLD_WITHIN_SECONDS = 60.0
"""Whoever acts later than that builds on nothing of it, and would fail without having to do with it."""


class Lasting:
    """New files of one server that are not on the disk yet. Any thread may call anything.

    :param log: told what could not be put there.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._fresh: OrderedDict[object, float] = OrderedDict()
        self._waiting: dict[object, int] = {}
        self._failed: dict[object, OSError] = {}
        self._untold: OSError | None = None
        self._failed_at = 0.0
        self._busy = False
        self._many = threading.Event()
        self._worker: threading.Thread | None = None

    def made(self, file: object) -> None:
        """The guest made it now."""
        now = time.monotonic()
        with self._lock:
            while self._fresh and self._fresh[next(iter(self._fresh))] <= now:
                self._fresh.popitem(last=False)
            self._fresh[file] = now + _FRESH_SECONDS
            self._fresh.move_to_end(file)

    def is_fresh(self, file: object) -> bool:
        """Whether it was made a moment ago, and asked for once at most."""
        with self._lock:
            return file in self._waiting or self._fresh.get(file, 0.0) > time.monotonic()

    def later(self, file: object, reopen: Callable[[], int]) -> bool:
        """Whether it will be on the disk in a moment, by itself; False: it has to be put there now.

        :param reopen: gives a descriptor of it that reads only: what is open for writing cannot be executed.
        :raises OSError: it could not be put there the last time.
        """
        with self._lock:
            if (fault := self._failed.pop(file, None)) is not None:
                if self._untold is fault:
                    self._untold = None
                raise fault
            if file in self._waiting:
                return True
            fresh = self._fresh.pop(file, 0.0) > time.monotonic()
            # Windows syncs nothing that only reads.
            if not fresh or len(self._waiting) >= _WAITING_MOST or sys.platform == "win32":
                return False
            try:
                self._waiting[file] = reopen()
                if len(self._waiting) >= _WAITING_BEGUN:
                    self._many.set()
                if self._worker is None:
                    self._worker = threading.Thread(target=self._run, name="shares-lasting", daemon=True)
                    self._worker.start()
            except (OSError, RuntimeError):  # no descriptor, no thread
                self._worker = None
                return False
            return True

    def drain(self) -> None:
        """Put all that waits on the disk now.

        :raises OSError: something could not be put there, now or in the last minute, and nobody was told.
        """
        self._sync()
        with self._lock:
            fault, self._untold = self._to_tell(), None
        if fault is not None:
            raise fault

    def _to_tell(self) -> OSError | None:
        return self._untold if time.monotonic() - self._failed_at <= _TOLD_WITHIN_SECONDS else None

    def _sync(self) -> None:
        with self._lock:
            if not self._waiting and not self._busy:
                return
        with self._syncing:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                self._busy = True
            try:
                for file, descriptor in waiting.items():
                    self._put(file, descriptor)
            finally:
                with self._lock:
                    self._busy = False

    def _put(self, file: object, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as fault:
            with self._lock:
                first, self._untold = self._to_tell() is None, fault
                self._failed_at = time.monotonic()
                if len(self._failed) < _REMEMBERED_MOST:
                    self._failed[file] = fault
            if first:
                self._log(f"shares: what a container wrote could not be put on the disk: {fault.strerror}")
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _run(self) -> None:
        while True:
            self._many.wait(_DELAY_SECONDS)
            self._many.clear()
            self._sync()
            with self._lock:
                if not self._waiting:
                    self._worker = None
                    return
