"""Base images that are stored: CACHE/base/sha256/KEY/{image.tar,manifest.json}   KEY: sha256 of what went in

KEY does not vouch for the tar: its manifest does, by `sha256`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from images.disk import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

IMAGE, MANIFEST = "image.tar", "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_base(folder: Path) -> dict[str, Any] | None:
    """What a stored base image's manifest says; None when it cannot be read, says too little, or has no image."""
    try:
        facts = json.loads((folder / MANIFEST).read_bytes())
        shaped = isinstance(facts["request"], dict) and all(type(facts[key]) is int for key in ("revision", "date"))
        shaped = shaped and _SHA256.fullmatch(facts["sha256"]) is not None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return facts if shaped and (folder / IMAGE).is_file() else None


def is_sound_base(folder: Path) -> bool:
    """Whether a stored base image is what its manifest says; every byte of it is read."""
    facts = read_base(folder)
    try:
        return facts is not None and sha256_file(folder / IMAGE) == facts["sha256"]
    except OSError:
        return False
