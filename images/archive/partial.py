"""What came of a download before it broke off."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from images.disk import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    import requests

PARTIAL = 206


def length_of(partial: Path) -> int:
    """Its bytes; none when there is none."""
    try:
        return partial.stat().st_size
    except OSError:
        return 0


def resume(partial: Path, size: int) -> tuple[hashlib._Hash, int]:
    """Hash what came before; a part that is too long, or cannot be read, is no part of it."""
    digest, have = hashlib.sha256(), 0
    try:
        with partial.open("rb") as file:
            while have <= size and (chunk := file.read(CHUNK)):
                digest.update(chunk)
                have += len(chunk)
    except OSError:  # there is none, or the disk does not read it any more
        have = size + 1
    if have <= size:
        return digest, have
    partial.unlink(missing_ok=True)
    return hashlib.sha256(), 0


def continues(response: requests.Response, have: int) -> bool:
    """Whether the body starts at byte `have`."""
    if response.status_code != PARTIAL:
        return have == 0
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
