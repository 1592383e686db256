"""Downloads: resumable, checked while they stream, kept by their sha256.

CACHE/archive/sha256/ab/abcd…   a whole, checked file
CACHE/archive/partial/abcd….part  what came so far; .lock beside it while somebody fetches
"""

from __future__ import annotations

import copy
import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial as partial_call
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from images.addresses import without_login
from images.archive.partial import PARTIAL, continues, length_of, resume
from images.disk import disk_full_explained, sha256_file
from images.errors import HashError, ImageError, MirrorError, MissingFileError, OtherFileError
from images.patience import LOOK, Patience, status_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import requests

    from images.progress import Progress, Task

_T = TypeVar("_T")

ARCHIVE = "archive"
"""The cache's folder of downloads."""

OK, UNAUTHORIZED, RANGE_NOT_SATISFIABLE, TOO_MANY = 200, 401, 416, 429
SERVER_FAULT = 500
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0
FURTHER = 1 << 20
"""Bytes that an attempt must bring for its failure not to count."""

MIRROR_HINT = "Check the network, or choose a mirror: `hostvm image build --mirror http://deb.debian.org/debian`"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have, known by its hash.

    :param size: bytes; more than this is never read.
    :param urls: tried in order, e.g. by-hash first.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Source:
    """What is told of a place that fails.

    :param noun: what it is, as in "the mirror has no FILE".
    :param promise: where the hashes come from.
    :param indexed: they come from an index that may change meanwhile: what is not as promised is a StaleIndexError.
    """

    error: type[ImageError]
    noun: str
    promise: str
    hint: str
    indexed: bool = False


MIRROR = Source(MirrorError, "mirror", "the signed index", MIRROR_HINT, indexed=True)


class _RetryError(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, text: str, response: requests.Response | None = None) -> None:
        super().__init__(text)
        self.response = response


class _MissingError(Exception):
    """The server says that there is no such file."""


class Fetcher:
    """Gets files from mirrors into the cache. Threads may share one.

    :param session: a prepared requests session; tests hand in one that serves a local folder.
    :param note: unless there is a `patience`, its `note`.
    """

    def __init__(
        self,
        cache: Path,
        session: requests.Session | None = None,
        patience: Patience | None = None,
        workers: int = 4,
        source: Source | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.root = cache / ARCHIVE
        self._session = session or _new_session(workers)
        self._patience = patience or (Patience(note=note) if note else Patience())
        self._workers = workers
        self._source = source or MIRROR

    def of(self, source: Source) -> Fetcher:
        """The same, for files of another place."""
        other = copy.copy(self)
        other._source = source  # noqa: SLF001 - one of this class
        return other

    def path(self, sha256: str) -> Path:
        """Where a checked file is kept."""
        return self.root / "sha256" / sha256[:2] / sha256

    def read(self, url: str, limit: int) -> bytes:
        """Read a small file whose hash nobody knows (InRelease), not more than `limit` bytes.

        :raises MirrorError: unreachable, missing, or too long.
        """
        try:
            return self._persist(lambda: self._read_once(url, limit), url)
        except _MissingError as error:
            raise self._error(f"there is no {url}", str(error)) from error

    def has(self, sha256: str) -> bool:
        """Whether the cache holds that file; its content is compared."""
        try:
            return sha256_file(self.path(sha256)) == sha256
        except OSError:  # there is none, or the disk does not read it any more
            return False

    def fetched(self, sha256: str) -> int:
        """Bytes of that file that are in the cache, whole or the beginning; they are not compared."""
        return max(length_of(self.path(sha256)), length_of(self._partial(sha256)))

    def size_of(self, url: str, limit: int) -> int:
        """Bytes of a file whose size nobody promised.

        :raises MirrorError: unreachable, missing, longer than `limit`, or the server does not say.
        """

        def ask() -> str | None:
            with self._get(url, {}) as response:
                return response.headers.get("Content-Length")

        try:
            said = self._persist(ask, url)
        except _MissingError as error:
            raise self._error(f"there is no {url}", str(error)) from error
        if said is None or not said.isdecimal() or int(said) > limit:
            raise self._error(f"{url} cannot be fetched", f"its server gives its length as {said}; at most {limit}")
        return int(said)

    def fetch_all(self, items: Sequence[Wanted], progress: Progress, title: str) -> list[Path]:
        """Have all of `items`, some at a time; returns their paths in the same order.

        What is in the cache is checked again, and fetched again when it was damaged.

        :raises MirrorError: a mirror does not answer or lacks a file.
        :raises HashError: a file's content is not what its hash promises.
        :raises StaleIndexError: one of the two, when a mirror lacks a file or has another.
        :raises DiskFullError: no space in the cache. What came whole stays, so a retry continues.
        """
        stop = threading.Event()
        with (
            progress.task(title, sum(item.size for item in items), "B") as task,
            ThreadPoolExecutor(self._workers, "fetch") as pool,
        ):
            futures = [pool.submit(self._fetch, item, task, stop) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop.set()  # a Ctrl-C or the first fault ends the other downloads at their next chunk
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch(self, item: Wanted, task: Task, stop: threading.Event) -> Path:
        target = self.path(item.sha256)
        partial = self._partial(item.sha256)
        with disk_full_explained(self.root):
            for folder in (target.parent, partial.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with self._locked(partial.with_suffix(".lock"), item, stop):
                if _is_good(target, item):
                    task.advance(item.size)
                    return target
                self._download(item, partial, _Counter(task), stop)
                partial.replace(target)
        return target

    def _partial(self, sha256: str) -> Path:
        return self.root / "partial" / f"{sha256}.part"

    def _download(self, item: Wanted, partial: Path, counter: _Counter, stop: threading.Event) -> None:
        for url in item.urls:
            try:
                attempt = partial_call(self._stream, item, url, partial, counter, stop)
                check = partial_call(self._check, stop, item)
                self._persist(attempt, url, partial_call(length_of, partial), check)
            except _MissingError as error:
                missing = error
            else:
                return
        kind = MissingFileError if self._source.indexed else self._source.error
        where = without_login(item.urls[-1])
        raise kind(f"the {self._source.noun} has no {item.name}", f"{where}: {missing}", self._source.hint)

    def _stream(self, item: Wanted, url: str, partial: Path, counter: _Counter, stop: threading.Event) -> None:
        """One attempt: continue `partial`, then check the whole; wrong bytes are thrown away."""
        self._check(stop, item)
        digest, have = resume(partial, item.size)
        resumed, cut = have > 0, False
        counter.set(have)
        if have < item.size or not resumed:
            with self._get(url, {"Range": f"bytes={have}-"} if have else {}) as response:
                if not continues(response, have):
                    if response.status_code != OK:
                        partial.unlink(missing_ok=True)
                        raise _RetryError("the server does not continue where the download ended")
                    digest, have, resumed = hashlib.sha256(), 0, False
                start = have
                have = self._append(response, partial, digest, _Goal(item, have, counter, stop))
                # A whole answer that is too short is another file; only a cut one is worth continuing.
                cut = response.headers.get("Content-Length") != str(have - start)
        if have < item.size and cut:
            raise _RetryError(f"the connection ended after {have} of {item.size} bytes")
        if have == item.size and digest.hexdigest() == item.sha256:
            return
        partial.unlink(missing_ok=True)
        if resumed:
            raise _RetryError("the part fetched earlier was damaged")
        kind = OtherFileError if self._source.indexed else HashError
        raise kind(
            f"{item.name} is not what {self._source.promise} promises",
            f"{without_login(url)}\nsha256 wanted {item.sha256} ({item.size} bytes)\n"
            f"sha256 got    {digest.hexdigest()} ({'more than ' * (have > item.size)}{min(have, item.size)} bytes)",
            self._source.hint,
        )

    def _read_once(self, url: str, limit: int) -> bytes:
        with self._get(url, {}) as response:
            data = b""
            for chunk in _pieces(response):
                data += chunk
                if len(data) > limit:
                    raise self._error(f"{url} is too long", f"More than {limit} bytes came.")
            return data

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        # Without identity a proxy may compress, and neither lengths nor ranges would agree.
        response = self._session.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        )
        status = response.status_code
        if status in (OK, PARTIAL, RANGE_NOT_SATISFIABLE):
            return response
        response.close()
        if status >= SERVER_FAULT or status == TOO_MANY:
            raise _RetryError(status_text(response), response)
        raise _MissingError(f"{status} {response.reason}{_why(response)}")

    def _persist(
        self,
        attempt: Callable[[], _T],
        url: str,
        have: Callable[[], int] = lambda: 0,
        check: Callable[[], None] = lambda: None,
    ) -> _T:
        """Repeat an attempt while its failure may pass; say what the last one was.

        :param have: bytes that stay of failed attempts. Patience is for a server that brings us no further, not for the
            number of interruptions, nor for a slow line.
        """
        import requests
        from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

        started, number, best = time.monotonic(), 0, have()
        while True:
            number += 1
            try:
                return attempt()
            except (InvalidURL, InvalidSchema, MissingSchema) as error:
                raise self._error(f"{url} is not an address", str(error)) from error
            except (requests.RequestException, _RetryError) as error:
                if have() >= best + FURTHER:
                    started, number, best = time.monotonic(), 1, have()
                elif self._patience.is_over(number, started, error):
                    raise self._error(f"cannot fetch {url}", f"{error} (tried {number} times)") from error
                failed: Exception = error
            pause = self._patience.pause * 2 ** (number - 1) * random.uniform(0.8, 1.2)  # noqa: S311
            self._patience.rest(pause, url, failed, check)

    def _error(self, brief: str, details: str) -> ImageError:
        return self._source.error(without_login(brief), without_login(details), self._source.hint)

    @contextmanager
    def _locked(self, path: Path, item: Wanted, stop: threading.Event) -> Iterator[None]:
        """Hold a file's lock. Another hostvm may take long to fetch it: the wait ends with the other downloads' end."""
        lock = FileLock(path)
        while True:
            self._check(stop, item)
            with suppress(Timeout):
                lock.acquire(timeout=LOOK)
                break
        try:
            yield
        finally:
            lock.release()

    def _check(self, stop: threading.Event, item: Wanted) -> None:
        if stop.is_set():
            raise self._error(f"fetching {item.name} was given up", "Another download failed.")

    def _append(self, response: requests.Response, partial: Path, digest: hashlib._Hash, goal: _Goal) -> int:
        """Write the body behind the first `goal.have` bytes; never more than the file's size, plus a sign of excess."""
        have = goal.have
        with partial.open("ab" if have else "wb") as file:
            for chunk in _pieces(response):
                self._check(goal.stop, goal.item)
                have += len(chunk)
                if have > goal.item.size:
                    break
                file.write(chunk)
                digest.update(chunk)
                goal.counter.set(have)
        return have


@dataclass(frozen=True, slots=True)
class _Goal:
    item: Wanted
    have: int
    counter: _Counter
    stop: threading.Event


class _Counter:
    """A task's advance, told as a position: an attempt that starts over takes back what it counted."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._position = 0

    def set(self, position: int) -> None:
        if position != self._position:
            self._task.advance(position - self._position)
            self._position = position


def _new_session(workers: int) -> requests.Session:
    from images.answers import BoundedAdapter
    from images.logins import LoginSession

    session = LoginSession()
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(pool_connections=workers, pool_maxsize=workers))
    session.headers["User-Agent"] = "hostvm"
    return session


def _pieces(response: requests.Response) -> Iterator[bytes]:
    from images.answers import pieces  # with requests, which takes 40 ms

    return pieces(response)


def _why(response: requests.Response) -> str:
    from images.logins import is_in_the_clear

    withheld = response.status_code == UNAUTHORIZED and is_in_the_clear(response.url)
    return " (passwords of ~/.netrc are sent over HTTPS only)" if withheld else ""


def _is_good(path: Path, item: Wanted) -> bool:
    """Whether the cache holds the file, whole; a damaged one is removed."""
    try:
        good = path.stat().st_size == item.size and sha256_file(path) == item.sha256
    except OSError:  # there is none, or the disk does not read it any more
        good = False
    if not good:
        path.unlink(missing_ok=True)
    return good
