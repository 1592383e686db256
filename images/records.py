"""What is known of a stored image besides itself: who signed it, and under which references it came.

CACHE/images/records/DIGEST.json   written whole; an image without one is simply one that was built here
CACHE/images/records/DIGEST.PID    being written, by the process of that number
CACHE/.records.lock                held for a moment by whoever changes some; no other lock is taken meanwhile
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from images.disk import disk_full_explained
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"[0-9a-f]{64}\.([0-9]{1,9})")
_LOCK, _LOCK_SECONDS = ".records.lock", 60.0
MOST_SIGNATURES = 32
"""That an image may have. Anybody can add one by a key of theirs, and each goes wherever the image goes."""


@dataclass(frozen=True, slots=True)
class Record:
    """The notes on one image.

    :param signatures: minisign files over its manifest; they go with it when it is exported or pushed again.
    :param references: registry references that were resolved to it, digests included.
    """

    signatures: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


def read_record(cache: Path, digest: str) -> Record:
    """The notes on an image; empty ones when there are none or they cannot be read."""
    try:
        data = json.loads(_path(cache, digest).read_bytes())
        return Record(tuple(map(str, data["signatures"]))[:MOST_SIGNATURES], tuple(map(str, data["references"])))
    except (OSError, ValueError, KeyError, TypeError):
        return Record()


def add_record(cache: Path, digest: str, signatures: tuple[str, ...] = (), references: tuple[str, ...] = ()) -> None:
    """Add to the notes on an image. A reference names one image: it is taken from the one that had it.

    Of signatures, those that came first are kept, up to `MOST_SIGNATURES`.

    :raises DiskFullError: no space.
    :raises ImageError: another process holds the notes for a minute.
    """
    with _lock(cache):
        for other in find_references(cache):
            if other != digest:
                known = read_record(cache, other)
                kept = tuple(name for name in known.references if name not in references)
                if kept != known.references:
                    _write(cache, other, replace(known, references=kept))
        old = read_record(cache, digest)
        new = Record(_union(old.signatures, signatures)[:MOST_SIGNATURES], _union(old.references, references))
        if new != old:
            _write(cache, digest, new)


def remove_record(cache: Path, digest: str) -> None:
    """Forget an image.

    :raises ImageError: as `add_record`.
    """
    if _path(cache, digest).exists():
        with _lock(cache):  # or whoever reads it now writes it again
            _path(cache, digest).unlink(missing_ok=True)


def find_references(cache: Path) -> dict[str, tuple[str, ...]]:
    """The references of every image that has some, by digest."""
    names = sorted(path.stem for path in _path(cache, "x").parent.glob("*.json") if _DIGEST.fullmatch(path.stem))
    found = {digest: read_record(cache, digest).references for digest in names}
    return {digest: references for digest, references in found.items() if references}


def unfinished_records(cache: Path) -> list[Path]:
    """Notes that were being written by processes that are gone."""
    found = []
    for path in _path(cache, "x").parent.glob("*.[0-9]*"):
        if writer := _UNFINISHED.fullmatch(path.name):
            import psutil  # takes its time, and there are hardly ever any

            if not psutil.pid_exists(int(writer[1])):
                found.append(path)
    return found


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    path = cache / _LOCK
    with disk_full_explained(cache):
        cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=_LOCK_SECONDS):
            yield
    except Timeout as fault:
        raise ImageError(
            "what is known of the images cannot be written down",
            f"another process holds {path} for {_LOCK_SECONDS:.0f} s, which takes a moment otherwise",
            "End the other `hostvm` that stands still, then run the same command again",
        ) from fault


def _union(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _path(cache: Path, digest: str) -> Path:
    return cache / "images" / "records" / f"{digest}.json"


def _write(cache: Path, digest: str, record: Record) -> None:
    path = _path(cache, digest)
    with disk_full_explained(cache):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in unfinished_records(cache):
            left.unlink(missing_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        beside.replace(path)
