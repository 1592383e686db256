"""Files that are either the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

_BUSY_SECONDS = 3.0
_PAUSE = 0.02


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write beside `path`, flush to the disk, rename over it.

    :raises OSError: `path` is then untouched and nothing lies beside it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        move(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def rewrite(path: Path, text: str) -> None:
    """As `write_atomic`, of a file that is there and keeps its mode; where `path` is a link, of what it leads to.

    :raises OSError: as `write_atomic`.
    """
    place = path.resolve()
    write_atomic(place, text.encode("utf-8", "surrogateescape"), mode=place.stat().st_mode & 0o777)


def remove_for_good(path: Path) -> None:
    """Delete a file so that not even a power failure brings it back. Idempotent.

    :raises OSError: it cannot be deleted, or the folder not be written.
    """
    path.unlink(missing_ok=True)
    _flush_names(path.parent)


def flush(path: Path) -> None:
    """Have a file on the disk, its name included, that was written without being flushed.

    :raises OSError: it cannot be opened for writing, or the disk is full.
    """
    with path.open("r+b") as file:
        _to_disk(file.fileno())
    _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    if sys.platform != "win32":  # NTFS keeps the order of such changes by itself
        opened = os.open(folder, os.O_RDONLY)
        try:
            _to_disk(opened)
        finally:
            os.close(opened)


def _to_disk(descriptor: int) -> None:
    """macOS' fsync leaves it in the drive's own memory, which a power failure empties (fsync(2))."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # a file system that has no more than fsync
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename over `target`, at once or not at all.

    On Windows a file or folder that a virus scanner or a reader has open cannot be renamed: tried for 3 s.

    :raises OSError: it cannot be done; both are as they were.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            source.replace(target)
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def user_path(text: str) -> Path:
    """A path as people write it, with `~` for a home folder; one that nobody knows (`~nobody/x`) stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's raises a RuntimeError then


def private_folder(path: Path) -> Path:
    """Make `path` (and its parents) and keep others out of it.

    :raises OSError: it cannot be made, or belongs to another user.
    """
    if sys.platform == "win32":
        if not path.is_dir():
            from hostvm.platform.windows_security import make_private

            # Python gives 0700 its meaning there only since 3.12.4.
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private(str(path))
    else:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.lstat().st_uid
        if owner != os.geteuid():
            raise PermissionError(f"{path} belongs to user {owner}")
        path.chmod(0o700)
    return path


def tail(path: Path, lines: int, limit: int = 65536) -> str:
    """The last `lines` lines among the last `limit` bytes; "" when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line.rstrip("\r") for line in (text.splitlines()[-lines:] if lines else ()))
