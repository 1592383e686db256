"""What the guest knows already of the host's files, and what it is about to be told.

The guest hears of its own changes from its own kernel. Changes made on this computer are made known by acting them
out in the guest (`hostvm.shares.events`); for the moment of such an act the server plays along, so that the guest's
kernel tells its watchers "changed" of a file that is there and "deleted" of one that is gone, while nothing on this
computer is touched.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hostvm.platform.birth import birth_of

if TYPE_CHECKING:
    from collections.abc import Iterator

State: TypeAlias = "tuple[int, int, int] | None"
"""Modification time in ns, size, inode (of a folder 0, 0 and what it is known by); None: there is nothing."""

_MOST = 20_000
_ACT_SECONDS = 10.0
_SHOWN_SECONDS = 10.0
"""A guest that cannot be told (its ssh is cut, it stands still) must not be shown what is gone until that is noticed:
nothing could be made there meanwhile."""


def state_of(path: str) -> State:
    """What a path of this computer looks like now. A folder counts as unchanged for as long as it is the same one.

    Its number alone does not tell that: ext4 gives it to the next folder at once.
    """
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return (0, 0, hash((found.st_ino, birth_of(path, None))))
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def is_folder(path: str) -> bool:
    """Whether a path of this computer is a folder now, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def seconds_of(path: str) -> int | None:
    """A path's modification time as SFTP has it; None: there is nothing."""
    try:
        return os.lstat(path).st_mtime_ns // 10**9
    except OSError:
        return None


class News(NamedTuple):
    """What has become of a path: whether the guest knew of something there, and whether there is something."""

    known: bool
    there: bool


@dataclass(slots=True)
class _Change:
    """A path whose change is acted out `told` times, and the modification times that the guest may have seen."""

    told: int = 0
    until: float = 0.0
    seen: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Burial:
    """A path that the guest is told to take away.

    It was told so `told` times and has not answered; `awaited` of its removals have not reached the server yet. It is
    shown what it is to take away `until` then.
    """

    told: int = 0
    awaited: int = 0
    until: float = 0.0
    folder: bool = False


class Known:
    """Shared by a share's server and its watcher; any thread may call anything.

    An act never alters what `state_of` gives, so the events that it causes here are recognised and go no further.
    A deletion that is acted out lasts until the guest has said that it is done, not for a time: one that comes late
    would take away what has been made again here meanwhile. What is gone is shown to it for some seconds only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[str, State] = OrderedDict()
        self._changes: dict[str, _Change] = {}
        self._acting: Counter[str] = Counter()
        self._writers: Counter[str] = Counter()
        self._burials: dict[str, _Burial] = {}
        self._above: Counter[str] = Counter()
        self._above_until = 0.0
        self._folders: OrderedDict[str, None] = OrderedDict()
        self._shown: dict[str, int] = {}
        self.alone: frozenset[str] = frozenset()
        """Files that running containers have by themselves, without the folder that they are in."""

    def hear(self, path: str) -> News | None:
        """Something here may have changed the path; None where that is no news to the guest, which knows of it then.

        While the guest itself makes it or takes it away, nothing is: whoever looks in the midst of that would
        take its half for somebody else's change.
        """
        with self._lock:
            if path in self._acting:
                return None
            before = self._states.get(path, ())
            state = self._note(path)
            if before == state:
                return None
            if state is None and before is not None and before[:2] == (0, 0):
                self._folders[path] = None
                while len(self._folders) > _MOST:  # what others serve is never buried
                    self._folders.popitem(last=False)
            return News(before not in ((), None), state is not None)

    @contextlib.contextmanager
    def acting(self, path: str, *, removes: bool = False) -> Iterator[None]:
        """The guest itself makes the path inside the block, or takes it away.

        It knows of what is there after that; of nothing new where it failed.

        :param removes: what is there after it is not the guest's: somebody here was quick.
        """
        with self._lock:
            self._acting[path] += 1
        done = False
        try:
            yield
            done = True
        finally:
            with self._lock:
                if done:
                    self._record(path, None if removes else state_of(path))
                _release(self._acting, path)

    @contextlib.contextmanager
    def setting(self, path: str) -> Iterator[None]:
        """The guest itself sets attributes inside the block. A change here that it has not heard of stays one."""
        with self._lock:
            self._acting[path] += 1
            heard = self._states.get(path, ()) in ((), state_of(path))
        try:
            yield
        finally:
            with self._lock:
                if heard:
                    self._note(path)
                _release(self._acting, path)

    def _note(self, path: str) -> State:
        """The lock is held: nobody acts between the look and what is made of it."""
        return self._record(path, state_of(path))

    def _record(self, path: str, state: State) -> State:
        self._states[path] = state
        self._states.move_to_end(path)
        while len(self._states) > _MOST:
            self._states.popitem(last=False)
        return state

    # ---- changes

    def begin(self, path: str) -> None:
        """The guest is about to act out a change of what is there: to set the time that it finds."""
        found = seconds_of(path)
        with self._lock:
            change = self._changes.setdefault(path, _Change())
            change.told += 1
            change.until = time.monotonic() + _ACT_SECONDS
            change.seen.update(
                seconds for seconds in (found, self._shown.get(path)) if seconds is not None
            )  # the guest's kernel may still have what it was shown last
            if len(self._changes) > _MOST:
                now = time.monotonic()
                self._changes = {path: one for path, one in self._changes.items() if one.until > now}

    def shown(self, path: str, seconds: int) -> None:
        """The guest is told this modification time; it may be what it sets when the file has changed again."""
        if len(self._shown) >= _MOST:
            self._shown = {}
        self._shown[path] = seconds
        if not self._changes:
            return
        with self._lock:
            if path in self._changes:
                self._changes[path].seen.add(seconds)

    def retold(self, path: str, seconds: int) -> bool:
        """Whether setting this modification time only acts out a change; each that was begun has one."""
        if not self._changes:
            return False
        with self._lock:
            change = self._changes.get(path)
            if change is None:
                return False
            if change.until < time.monotonic():
                del self._changes[path]
                return False
            if seconds not in change.seen:
                return False
            change.told -= 1
            if not change.told:
                del self._changes[path]
            return True

    # ---- what the guest is writing

    def opened(self, path: str) -> None:
        """The guest is about to write to the path, until `closed` is called as often."""
        with self._lock:
            self._writers[path] += 1

    def closed(self, path: str, *, changed: bool = True) -> None:
        """See `opened`; what the guest wrote is known of.

        :param changed: it may have written.
        """
        with self._lock:
            if changed:
                self._note(path)
            _release(self._writers, path)

    def written(self) -> list[str]:
        """Paths that are open for writing."""
        with self._lock:
            return list(self._writers)

    def writing(self, path: str) -> bool:
        """Whether changes of the path are the guest's own now."""
        with self._lock:
            return path in self._writers

    # ---- deletions

    def bury(self, path: str) -> None:
        """The guest is about to be told to take the path away; `settle` follows for each time that this was called."""
        with self._lock:
            burial = self._burials.setdefault(path, _Burial())
            burial.told += 1
            burial.awaited += 1
            burial.until = self._above_until = time.monotonic() + _SHOWN_SECONDS
            burial.folder = path in self._folders
            self._folders.pop(path, None)
            self._above.update(_parents(path))

    def settle(self, path: str) -> None:
        """The guest has done that, whatever came of it, or will never do it."""
        with self._lock:
            burial = self._burials.get(path)
            if burial is None:
                return
            burial.told -= 1
            burial.awaited = min(burial.awaited, burial.told)
            for parent in _parents(path):
                _release(self._above, parent)
            if not burial.told:
                del self._burials[path]

    def buried(self, path: str) -> str:
        """What the guest must see where nothing is, because it has yet to take it away: "file", "folder" or ""."""
        if not self._burials:
            return ""
        with self._lock:
            burial, now = self._burials.get(path), time.monotonic()
            if burial is None or not burial.awaited or burial.until < now:
                return "folder" if path in self._above and self._above_until >= now else ""
            return "folder" if burial.folder else "file"

    def swallows(self, path: str, *, there: bool) -> bool:
        """Whether the guest's removal of the path may be the one that it was told to make: nothing may be done then.

        Each telling has one. Where there is something, all are until the guest has said that it is done: another
        program's may have come first, and what was made since would go with the one that is still to come.
        """
        if not self._burials:
            return False
        with self._lock:
            burial = self._burials.get(path)
            if burial is None:
                return False
            if burial.awaited:
                burial.awaited -= 1
                return True
            return there

    def answers_removal(self, path: str) -> bool | None:
        """What to say of the guest's removal of the path, with nothing done; None: it is to be done.

        True: that it is gone, since the removal only acts out one that was made here. False: no. What is there was made
        again meanwhile: it stays, whoever it was that wanted it gone.
        """
        there = os.path.lexists(path)
        return not there if self.swallows(path, there=there) else None


def _parents(path: str) -> list[str]:
    """The folders that a path lies in, but for the topmost."""
    found = []
    while (parent := os.path.dirname(path)) not in (path, ""):  # noqa: PTH120 - text throughout
        found.append(parent)
        path = parent
    return found


def _release(counted: Counter[str], path: str) -> None:
    counted[path] -= 1
    if counted[path] <= 0:
        del counted[path]
