"""Names of shared files without the links on the way to them: a server of ours knows files by these alone.

A container may be given a folder by a link in a share, and watchfiles goes where links lead, and tells what changes
there by the link's name, not by the folder's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hostvm.shares.model import default_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hostvm.shares.model import Mount


class Place(NamedTuple):
    """A file or folder of a share: where it is here, and in the guest."""

    mount: Mount
    here: str
    there: str


def place_of(path: str, mounts: Sequence[Mount]) -> Place | None:
    """What a path of the guest leads to; None for what is of no share, or of another folder than here.

    Links are followed as the guest has them, where a folder of this computer is at the same path unless it was asked
    for elsewhere.
    """
    found = _named(path, mounts)
    if found is None:
        return None
    real = os.path.realpath(found.here)
    inside = inside_of(real, os.path.realpath(found.mount.source))
    own = default_target(real) if inside is None else found.mount.target + inside.replace(os.sep, "/")
    if os.path.normcase(own) == os.path.normcase(path):
        return found
    leads_to = _named(own, mounts)
    return leads_to if leads_to is not None and os.path.realpath(leads_to.here) == real else None


def own_names(batch: Iterable[tuple[str, str]], sources: Iterable[str]) -> list[tuple[str, str]]:
    """Changes as watchfiles tells them, by names without links; those of what is in no watched folder are left out.

    :param sources: what is watched.
    """
    tops = {source: os.path.realpath(source) for source in sorted(sources, key=len, reverse=True)}
    folders: dict[str, str | None] = {}
    found = []
    for change, path in batch:
        if path in tops:
            found.append((change, path))
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _own_folder(folder, tops)
        if (own := folders[folder]) is not None:
            found.append((change, os.path.join(own, name)))  # noqa: PTH118 - text throughout
    return found


def inside_of(path: str, folder: str) -> str | None:
    """What follows a folder in the path of something in it, a separator first; "" for itself, None for others."""
    if path == folder:
        return ""
    top = folder.rstrip(os.sep)
    return path[len(top) :] if path.startswith(top + os.sep) else None


def below(folder: str, inside: str) -> str:
    """The path that `inside_of` was asked for."""
    return folder.rstrip(os.sep) + inside if inside else folder


def _own_folder(folder: str, tops: dict[str, str]) -> str | None:
    real = os.path.realpath(folder)
    # As it is told, if that is without links: a folder may be watched by several names.
    for source in sorted(tops, key=lambda one: inside_of(folder, one) is None):
        if (inside := inside_of(real, tops[source])) is not None:
            return below(source, inside)
    return None


def _named(path: str, mounts: Iterable[Mount]) -> Place | None:
    for mount in sorted(mounts, key=lambda one: -len(one.target)):
        if path == mount.target or path.startswith(f"{mount.target}/"):
            return Place(mount, below(mount.source, path[len(mount.target) :].replace("/", os.sep)), path)
    return None
