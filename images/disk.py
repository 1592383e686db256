"""Writing files so that nothing half-made is ever seen."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from images.errors import DiskFullError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images.progress import Progress

CHUNK = 1 << 20
UNFINISHED = ".new-"
LOCK, OUTGOING = ".lock", ".outgoing.lock"
"""Of whoever makes something in a folder; and, of the images' folder, of whoever reads the cache to send it away."""

FREE_SOME = "Free some: `hostvm image prune`; or put the cache elsewhere by setting HOSTVM_CACHE"


def is_full(error: OSError) -> bool:
    """Whether it is of a disk without room, or of a quota."""
    full = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
    # 112 is ERROR_DISK_FULL, which Python maps to no errno of its own.
    return error.errno in full or getattr(error, "winerror", None) == 112  # noqa: PLR2004


@contextmanager
def disk_full_explained(folder: Path, way: str = FREE_SOME) -> Iterator[None]:
    """Turn ENOSPC (and its Windows and quota forms) into an error that names the folder.

    :param way: what to do, where the folder is not of the cache.
    :raises DiskFullError: the body ran out of space.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFullError(
            f"no space left in {folder}",
            str(error),
            way,
        ) from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder inside `parent` that is gone afterwards, whatever happened.

    It lies beside its destination so that a rename moves it; `parent` is made when missing. What a killed run
    left there is removed first, so the caller must hold the lock of `parent`.
    """
    with disk_full_explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    try:
        with disk_full_explained(parent):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(made: Path, target: Path) -> None:
    """Move a finished folder to its place; what lies there goes.

    :param made: inside a `temporary_folder`, which takes along what cannot be removed.
    :raises ImageError: it is in use, where a system forbids to rename that (Windows).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        # Renamed first: a folder that is half removed must not be found.
        doomed = made.with_name(f"{made.name}-replaced")
        try:
            target.replace(doomed)
        except PermissionError as error:
            raise ImageError(
                f"{target} is damaged and cannot be replaced",
                str(error),
                "Stop the machine that uses it (`hostvm ls`), then try again",
            ) from error
        try:
            made.replace(target)
        except OSError:
            doomed.replace(target)
            raise
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        made.replace(target)


@contextmanager
def work_lock(folder: Path, progress: Progress, name: str = LOCK) -> Iterator[None]:
    """Hold a lock of `folder`, waiting for another hostvm that works there, and saying so; makes the folder.

    Under `LOCK` nothing may wait for a stream whose other end may want the same lock, but one that has begun: whoever
    writes to a stream holds no more than `OUTGOING` by then, which no reader of one takes.

    :raises DiskFullError: no space for the folder.
    """
    with disk_full_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(f"another hostvm works in {folder}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def require_space(folder: Path, size: int) -> None:
    """Make sure that `size` bytes more will fit before a guest writes them: it would only see a broken disk.

    :raises DiskFullError: they will not.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFullError(
            f"not enough space in {folder.parent}",
            f"{size >> 20} MiB are needed, {free >> 20} MiB are free.",
            FREE_SOME,
        )


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
