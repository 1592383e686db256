"""What of the cache nobody needs: found first, so that it can be shown, then removed."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from images.ages import age_of
from images.archive.fetch import ARCHIVE
from images.disk import OUTGOING, UNFINISHED, work_lock
from images.errors import ImageError
from images.records import unfinished_records
from images.store import images_folder, list_damaged, list_images, remove_image

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from images.progress import Progress

WORKED_IN = ("images", "base", "builder", "emulators", "firmware", ARCHIVE)
"""Folders with a work lock, in the order of locks: who holds one takes only later ones, and those of downloads last.

What was downloaded stays while any is held; who reads it and makes nothing holds that of the downloads themselves."""

YOUNG_SECONDS = 600.0
"""An image that came, or was asked for (`note_use`), so lately may be about to be given to a machine."""


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
    """Images but those in `needed`, young ones, and the newest of each name and architecture; what was left unfinished.

    :param needed: digests, hex, of images that machines boot.
    :param everything: also the newest images, all downloaded packages, and emulators.
    """
    return _find(cache, needed, WORKED_IN, everything=everything)


def _find(cache: Path, needed: Collection[str], folders: Sequence[str], *, everything: bool) -> list[Doomed]:
    """:param folders: in which unfinished things are looked for."""
    found, newest = [], set()
    for image in list_images(cache):  # newest first
        first = (image.name, image.arch) not in newest
        newest.add((image.name, image.arch))
        if image.digest not in needed and (everything or not first) and not _is_young(image.path):
            found.append(Doomed("image", f"{image.name} {image.digest[:12]}", image.path, image.size))
    found += [
        Doomed("damaged image", path.name[:12], path, _size(path))
        for path in list_damaged(cache)
        if path.name not in needed
    ]
    left = [path for folder in folders for path in (cache / folder).glob(f"{UNFINISHED}*")]
    left += [path for path in cache.glob("images/uploads/*") if path.suffix != ".lock"]  # which a push may hold
    left += [*cache.glob("archive/partial/*.part"), *unfinished_records(cache)]
    found += [Doomed("unfinished", str(path.relative_to(cache)), path, _size(path)) for path in sorted(left)]
    packages = cache / ARCHIVE / "sha256"
    if everything and ARCHIVE in folders and packages.is_dir():
        found.append(Doomed("download", "packages", packages, _size(packages)))
    if everything:
        kept = sorted((cache / "emulators").glob("*/manifest.json"))
        found += [Doomed("download", "emulators", path.parent, _size(path.parent)) for path in kept]
    return found


def remove_unneeded(
    cache: Path, needed: Callable[[], Collection[str]], progress: Progress, *, everything: bool
) -> list[Doomed]:
    """Remove what `find_unneeded` finds, once nobody else works there, but downloads that run; returns that.

    :param needed: asked once nobody else works there.
    """
    with ExitStack() as locks:
        folders = [name for name in WORKED_IN if name == "images" or (cache / name).is_dir()]
        locks.enter_context(work_lock(cache / "images", progress, OUTGOING))  # first: its holder may wait for others
        for name in folders:
            locks.enter_context(work_lock(cache / name, progress))
        found = _find(cache, needed(), folders, everything=everything)
        return [item for item in found if _remove(cache, item)]


def _remove(cache: Path, item: Doomed) -> bool:
    """Whether it could be removed: nobody is downloading it, and nobody removed it meanwhile."""
    if item.path.parent == images_folder(cache):
        try:
            remove_image(cache, item.path.name)
        except ImageError:
            return False
    elif item.path.is_dir():
        shutil.rmtree(item.path, ignore_errors=True)
    elif item.path.suffix == ".part":
        try:
            with FileLock(item.path.with_suffix(".lock"), timeout=0):
                item.path.unlink(missing_ok=True)
        except Timeout:
            return False
    else:
        item.path.unlink(missing_ok=True)
    return True


def _is_young(path: Path) -> bool:
    try:
        return age_of(path) < YOUNG_SECONDS
    except FileNotFoundError:
        return False  # somebody removed it


def _size(path: Path) -> int:
    """Bytes of a file or folder, while others may work in it: what they remove has none."""
    files = [path] if path.is_file() else [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(map(_file_size, files))


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
