"""Base images that are stored: CACHE/base/sha256/KEY/{image.tar,manifest.json}   KEY: sha256 of what went in"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

IMAGE, MANIFEST = "image.tar", "manifest.json"


def read_base(folder: Path) -> dict[str, Any] | None:
    """What a stored base image's manifest says; None when it cannot be read, says too little, or has no image."""
    try:
        facts = json.loads((folder / MANIFEST).read_bytes())
        shaped = isinstance(facts["request"], dict) and all(type(facts[key]) is int for key in ("revision", "date"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return facts if shaped and (folder / IMAGE).is_file() else None
