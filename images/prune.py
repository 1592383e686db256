"""What of the cache nobody needs: found first, so that it can be shown, then removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.disk import UNFINISHED, work_lock
from images.records import remove_record
from images.store import images_folder, list_damaged, list_images, remove_image

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from images.progress import Progress


@dataclass(frozen=True, slots=True)
class Doomed:
    """Something to remove.

    :param kind: image, damaged image, unfinished, download.
    :param size: bytes that this frees.
    """

    kind: str
    name: str
    path: Path
    size: int


def find_unneeded(cache: Path, needed: Collection[str], *, everything: bool = False) -> list[Doomed]:
    """Images but those in `needed` and the newest of each name and architecture; what was left unfinished.

    :param needed: digests, hex, of images that machines boot.
    :param everything: also the newest images, and all downloaded packages.
    """
    found, newest = [], set()
    for image in list_images(cache):  # newest first
        first = (image.name, image.arch) not in newest
        newest.add((image.name, image.arch))
        if image.digest not in needed and (everything or not first):
            found.append(Doomed("image", f"{image.name} {image.digest[:12]}", image.path, image.size))
    found += [
        Doomed("damaged image", path.name[:12], path, _size(path))
        for path in list_damaged(cache)
        if path.name not in needed
    ]
    left = [*cache.glob(f"*/{UNFINISHED}*"), *cache.glob("archive/partial/*.part"), *cache.glob("images/uploads/*")]
    found += [Doomed("unfinished", str(path.relative_to(cache)), path, _size(path)) for path in sorted(left)]
    packages = cache / "archive" / "sha256"
    if everything and packages.is_dir():
        found.append(Doomed("download", "packages", packages, _size(packages)))
    return found


def remove_unneeded(cache: Path, needed: Collection[str], progress: Progress, *, everything: bool) -> list[Doomed]:
    """Remove what `find_unneeded` finds once nobody else works there; returns that."""
    with work_lock(cache / "images", progress):
        found = find_unneeded(cache, needed, everything=everything)
        for item in found:
            if item.path.parent == images_folder(cache):
                remove_image(cache, item.path.name)
                remove_record(cache, item.path.name)
            elif item.path.is_dir():
                shutil.rmtree(item.path, ignore_errors=True)
            else:
                item.path.unlink(missing_ok=True)
    return found


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
