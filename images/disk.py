"""Writing files so that nothing half-made is ever seen."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20


@contextmanager
def disk_full_explained(folder: Path) -> Iterator[None]:
    """Turn ENOSPC (and its Windows and quota forms) into an error that names the folder.

    :raises DiskFullError: the body ran out of space.
    """
    try:
        yield
    except OSError as error:
        full = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
        # 112 is ERROR_DISK_FULL, which Python maps to no errno of its own.
        if error.errno not in full and getattr(error, "winerror", None) != 112:  # noqa: PLR2004
            raise
        raise DiskFullError(
            f"no space left in {folder}",
            str(error),
            "Free some: `hostvm image prune`; or put the cache elsewhere by setting HOSTVM_CACHE",
        ) from error


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder inside `parent` that is gone afterwards, whatever happened.

    It lies beside its destination so that a rename moves it; `parent` is made when missing.
    """
    with disk_full_explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with disk_full_explained(parent):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
