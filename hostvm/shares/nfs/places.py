"""Where the files are that the guest knows by their numbers.

NFS names a file by a handle that must be good for as long as somebody may use it: a container's folder has been looked
up once, at its start. A handle holds the file's number, and this table tells the folder and name that it was found by.
It is kept in a file, so that agents that come after, and a machine that was suspended, go on with it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import sqlite3
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hostvm.shares.tree import Seen, Tree

MASK = 2**63 - 1
"""SQLite's numbers have a sign."""

ROOT = 1
"""The number of the share's folder, whatever folder that is by now."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What a path that leads nowhere any more is told by, a folder on it that became a link included."""

_SEARCH_SECONDS, _SEARCH_PAUSE = 10.0, 60.0
_WRITE_SECONDS = 0.1
_MOST = 50_000
_DEEPEST = 256
_FORMER_MOST = 50_000
PLACES_ENDS = ("", "-wal", "-shm")
"""What follows a database's name in those of its files."""

_TABLE = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=OFF;
CREATE TABLE IF NOT EXISTS place (
    share INTEGER, folder INTEGER, name BLOB, number INTEGER, UNIQUE (share, folder, name) ON CONFLICT REPLACE
);
CREATE INDEX IF NOT EXISTS by_number ON place (share, number);
CREATE TABLE IF NOT EXISTS former (
    share INTEGER, folder INTEGER, name BLOB, number INTEGER, UNIQUE (share, number, folder, name) ON CONFLICT REPLACE
);
"""
_REPLACED = """
INSERT INTO former SELECT share, folder, name, number FROM place
WHERE share = ? AND folder = ? AND name = ? AND number <> ?
"""
_PLACES = tuple(
    f"SELECT folder, name FROM {table} WHERE share = ? AND number = ? ORDER BY rowid DESC"  # noqa: S608 - two words
    for table in ("place", "former")
)
_PRUNE = "DELETE FROM former WHERE rowid <= (SELECT max(rowid) FROM former) - ?"


def number_of(words: bytes) -> int:
    """A number that is always the same for the same words."""
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big") & MASK


class PlaceStore:
    """The file; all shares of a machine have one. Any thread may call anything, and nothing raises.

    It is written a moment later. What a kill of this process or a full disk loses is found again by a search
    (`Places.paths`), and one that is damaged is begun anew.

    A name that another file has by now is kept for the one that had it before (`former`): a container that has a single
    file knows it by that number for as long as it runs, however often the file is saved by a rename.
    """

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.Lock()
        self._forgotten: dict[tuple[int, int, str], None] = {}
        self._waiting: dict[tuple[int, int, str], int] = {}
        self._replaced: list[tuple[int, int, bytes, int]] = []
        self._writer: threading.Timer | None = None
        self._base = self._open(path)

    def _open(self, path: Path | str) -> sqlite3.Connection:
        for place in (path, path, ":memory:"):
            try:
                base = sqlite3.connect(place, check_same_thread=False, isolation_level=None)
                base.executescript(_TABLE)
                break
            except sqlite3.OperationalError:  # it is in use, or there is no room
                continue
            except sqlite3.Error:
                for end in PLACES_ENDS:
                    Path(f"{path}{end}").unlink(missing_ok=True)
        return base

    def put(self, share: int, rows: Sequence[tuple[int, str, int]]) -> None:
        """Remember what was found: the folder's number, the name, its number."""
        with self._lock:
            for folder, name, number in rows:
                before = self._waiting.pop((share, folder, name), number)
                if before != number:
                    self._replaced.append((share, folder, encode(name), before))
                self._waiting[share, folder, name] = number
            self._write_soon()

    def forget(self, share: int, folder: int, name: str) -> None:
        """What was found there is there no more. Idempotent."""
        with self._lock:
            self._waiting.pop((share, folder, name), None)
            self._forgotten[share, folder, name] = None
            self._write_soon()

    def write(self) -> None:
        """Put what waits into the file."""
        with self._lock:
            self._writer = None
            self._write()

    def places(self, share: int, number: int) -> list[tuple[int, str]]:
        """Folders and names that a number was found by, the last one first, and then those of others by now."""
        with self._lock:
            self._write()
            try:
                rows = [row for words in _PLACES for row in self._base.execute(words, (share, number))]
            except sqlite3.Error:
                return []
        return [(int(folder), bytes(name).decode("utf-8", "surrogateescape")) for folder, name in rows]

    def _write_soon(self) -> None:
        if self._writer is None:
            self._writer = threading.Timer(_WRITE_SECONDS, self.write)
            self._writer.daemon = True
            self._writer.start()

    def _write(self) -> None:
        if not self._waiting and not self._forgotten:
            return
        forgotten = [(share, folder, encode(name)) for share, folder, name in self._forgotten]
        rows = [(share, folder, encode(name), number) for (share, folder, name), number in self._waiting.items()]
        replaced = self._replaced
        self._replaced = []
        self._forgotten.clear()
        self._waiting.clear()
        try:
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM place WHERE share = ? AND folder = ? AND name = ?", forgotten)
            self._base.executemany("INSERT INTO former VALUES (?, ?, ?, ?)", replaced)
            self._base.executemany(_REPLACED, rows)
            self._base.executemany("INSERT INTO place VALUES (?, ?, ?, ?)", rows)
            self._base.execute(_PRUNE, (_FORMER_MOST,))
            self._base.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")


class Places:
    """Those of one share.

    :param share: its number, the same for the same share of a machine.
    :param tree: where files are looked for that this table does not know: the guest has learnt of them from a server
        whose table is lost, as when the memory of an old snapshot goes on.
    """

    def __init__(self, store: PlaceStore, share: int, tree: Tree) -> None:
        self._store = store
        self._share = share
        self._tree = tree
        self._device = tree.stat("").st_dev
        self._searched = -_SEARCH_PAUSE
        self._known: dict[int, tuple[int, str]] = {}
        self._gone: OrderedDict[int, None] = OrderedDict()

    def number(self, seen: Seen, path: str) -> int:
        """A file's number, which no other file gets after it where the file system tells when files were made."""
        if not path:
            return ROOT
        found = seen.found
        if not found.st_ino:
            return number_of(b"path " + encode(path))
        if found.st_dev == self._device:
            return number_of(b"%d %d" % (found.st_ino, seen.birth))
        return number_of(b"%d %d %d" % (found.st_dev, found.st_ino, seen.birth))

    def note(self, folder: int, found: Sequence[tuple[int, str]]) -> None:
        """These numbers were found in that folder by these names."""
        news = [(folder, name, number) for number, name in found if self._known.get(number) != (folder, name)]
        if not news:
            return
        self._store.put(self._share, news)
        for number, _ in found:
            self._gone.pop(number, None)
        if len(self._known) + len(news) > _MOST:
            self._known.clear()
        self._known.update((number, (folder, name)) for folder, name, number in news)

    def forget(self, number: int, folder: int, name: str) -> None:
        """The number's file has that name no more. Idempotent."""
        if self._known.get(number) == (folder, name):
            del self._known[number]
        self._store.forget(self._share, folder, name)
        self._gone[number] = None
        while len(self._gone) > _MOST:
            self._gone.popitem(last=False)

    def place(self, number: int) -> tuple[int, str]:
        """The folder and name that it was found by last.

        :raises OSError: ESTALE: nobody looked it up.
        """
        if (known := self._known.get(number)) is not None:
            return known
        found = self._store.places(self._share, number)
        if not found and number not in self._gone:
            found = self._search(number)
        if not found:
            raise OSError(errno.ESTALE, "a file that nobody has looked up")
        self._known[number] = found[0]
        return found[0]

    def known(self, number: int) -> tuple[int, str] | None:
        """The folder and name that it was found by last, if that was a short time ago."""
        return self._known.get(number)

    def path(self, number: int) -> str:
        """Where it was found last, a path of the share.

        :raises OSError: ESTALE, as of `place`.
        """
        names: list[str] = []
        while number != ROOT:
            if len(names) >= _DEEPEST:
                raise OSError(errno.ESTALE, "folders that lie in one another")
            number, name = self.place(number)
            names.append(name)
        return "/".join(reversed(names))

    def paths(self, number: int) -> Iterator[str]:
        """Where it may be: as it was found last, and if that is no more, where it is for certain.

        Files have several names, and what is renamed here and back again is where it was seen before. After the
        second path `path` and `folder` tell that one.

        :raises OSError: ESTALE, as of `place`; or a folder on the way cannot be looked into.
        """
        if number == ROOT:
            yield ""
            return
        self.place(number)
        with contextlib.suppress(OSError):
            yield self.path(number)
        if (path := self._there(number, {})) is not None:
            yield path

    def _there(self, number: int, tried: dict[int, str | None]) -> str | None:
        """Where it is, of all places that it and the folders around it were found at, which is noted; None: nowhere.

        :param tried: those that were looked for already, and where they are; None also while they are looked for.
        """
        if number == ROOT:
            return ""
        if number in tried or len(tried) >= _DEEPEST:
            return tried.get(number)
        tried[number], refused = None, None
        for folder, name in self._store.places(self._share, number):
            try:
                if (around := self._there(folder, tried)) is None:
                    continue
                path = join(around, name)
                seen = self._tree.see(path)
            except OSError as fault:
                if fault.errno not in GONE:
                    refused = fault
                continue
            if self.number(seen, path) == number:
                self.note(folder, [(number, name)])
                tried[number] = path
                return path
        if refused is not None:  # it may be there, and is not to be called gone
            raise refused
        return None

    def folder(self, number: int) -> int:
        """The folder that it was found in last; the share's own lies in itself.

        :raises OSError: ESTALE, as of `place`.
        """
        return ROOT if number == ROOT else self.place(number)[0]

    def _search(self, number: int) -> list[tuple[int, str]]:
        """Find it among all files of the share, and remember what else is there. Not in each other moment."""
        begun = time.monotonic()
        if begun - self._searched < _SEARCH_PAUSE:
            return []
        folders: dict[str, int] = {"": ROOT}
        for path, found in self._tree.walk():
            folder = folders[path]
            rows = [(folder, name, self.number(seen, f"{path}/{name}"[1:])) for name, seen in found]
            folders.update((f"{path}/{name}", one) for _, name, one in rows)
            self._store.put(self._share, rows)
            if any(one == number for _, _, one in rows):
                break
            if time.monotonic() - begun > _SEARCH_SECONDS:
                self._searched = time.monotonic()
                break
        else:
            self._searched = time.monotonic()
        return self._store.places(self._share, number)


def join(folder: str, name: str) -> str:
    """A name in a folder, as a path of the share."""
    return f"{folder}/{name}" if folder else name
