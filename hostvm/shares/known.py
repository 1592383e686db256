"""What the guest knows already of the host's files, and what it is about to be told.

The guest hears of its own changes from its own kernel. Changes made on this computer are made known by acting them
out in the guest (`hostvm.shares.events`); for the moment of such an act the server plays along, so that the guest's
kernel tells its watchers "changed" of a file that is there and "deleted" of one that is gone, while nothing on this
computer is touched.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from typing import TypeAlias

State: TypeAlias = "tuple[int, int, int] | None"
"""Modification time in ns, size, inode; None: there is nothing."""

CHANGED, DELETED = "M", "D"
_SOON: State = (-1, -1, -1)
_MOST = 20_000
_ACT_SECONDS = 1.0


def state_of(path: str) -> State:
    """What a path of this computer looks like now. A folder counts as unchanged for as long as it is one."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return (0, 0, found.st_ino)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class Known:
    """Shared by a share's server and its watcher; any thread may call anything.

    An act never alters what `state_of` gives, so the events that it causes here are recognised and go no further.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[str, State] = OrderedDict()
        self._acts: dict[str, tuple[str, float]] = {}

    def learn(self, path: str) -> bool:
        """The guest knows of the path's state as it is now; True when that is news to it."""
        state = state_of(path)
        with self._lock:
            new = self._states.get(path, ()) != state
            self._states[path] = state
            self._states.move_to_end(path)
            while len(self._states) > _MOST:
                self._states.popitem(last=False)
            return new

    def foresee(self, path: str, *, there: bool) -> None:
        """The guest itself is about to make the path, or to take it away.

        Said before it happens: a watcher that is quicker than the server must not take it for news to the guest,
        and hide a file from those who have just made it. `learn` follows, whatever becomes of it.
        """
        with self._lock:
            self._states[path] = _SOON if there else None

    def has(self, path: str) -> bool:
        """Whether the guest knows that there is something."""
        with self._lock:
            return self._states.get(path) is not None

    def begin(self, path: str, act: str) -> None:
        """The guest is about to act this out."""
        with self._lock:
            self._acts[path] = (act, time.monotonic() + _ACT_SECONDS)
            if len(self._acts) > _MOST:
                now = time.monotonic()
                self._acts = {path: one for path, one in self._acts.items() if one[1] > now}

    def acting(self, path: str, act: str, *, end: bool = False) -> bool:
        """Whether the guest is acting this out now; `end` ends it."""
        if not self._acts:
            return False
        with self._lock:
            found = self._acts.get(path)
            if found is None or found[0] != act:
                return False
            if end or found[1] < time.monotonic():
                del self._acts[path]
            return found[1] >= time.monotonic()
