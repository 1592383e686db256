"""Whether the folder of a share is the one that the user meant, when its path leads through other shares.

Containers can write there: a link may have been put by one, which would choose what is shared with it. Such a link
counts only where the user named it and it leads where it led then (`Mount.leads_to`). Links elsewhere, as /tmp of
macOS, are the user's own.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostvm.shares.model import (
    Mount,
    check_mounts,
    check_source,
    default_mounts,
    guest_path,
    make_mount,
    option_mounts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_LINKS = 40


class DistrustedError(OSError):
    """A path leads through a link that a container could have put."""


class Way(NamedTuple):
    """How a path resolves.

    :param real: without links.
    :param links: those on the way to it.
    """

    real: str
    links: tuple[str, ...]


def way_of(path: str) -> Way:
    """How an absolute path resolves; what is not there counts as no link. Links of links only on POSIX.

    :raises OSError: too many links (ELOOP).
    """
    given = Path(path)
    if sys.platform == "win32":
        return Way(os.path.realpath(path), tuple(str(part) for part in (given, *given.parents) if _is_link(part)))
    real, waiting, links = Path("/"), _names(given), []
    while waiting:
        name = waiting.pop()
        if name == "..":
            real = real.parent
            continue
        here = real / name
        try:
            leads = here.readlink()
        except OSError:
            real = here
            continue
        links.append(str(here))
        if len(links) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if leads.is_absolute():
            real = Path("/")
        waiting += _names(leads)
    return Way(str(real), tuple(links))


def _names(path: Path) -> list[str]:
    """The last first."""
    return [name for name in reversed(path.parts) if name != path.anchor]


def _is_link(path: Path) -> bool:
    """Of Windows: also a junction. Other reparse points (OneDrive's) lead nowhere else."""
    try:
        tag = getattr(path.lstat(), "st_reparse_tag", 0)
    except OSError:
        return False
    return tag in (getattr(stat, "IO_REPARSE_TAG_SYMLINK", -1), getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1))


def _outer_of(path: str, folders: Iterable[str]) -> str | None:
    """The folder that a path lies in, by what they are and not by their names; None: in none of them."""
    for folder in folders:
        with suppress(OSError):
            there = Path(folder).stat()
            for above in Path(path).parents:
                with suppress(OSError):
                    if os.path.samestat(above.stat(), there):
                        return folder
    return None


def _around(mount: Mount, mounts: Iterable[Mount]) -> list[str]:
    """Read-only ones, too: they may have been writable before. Where one led counts when its link is gone."""
    others = [one for one in mounts if one.target != mount.target]
    return [folder for one in others for folder in (one.source, one.leads_to) if folder]


def unlinked_path(mount: Mount, mounts: Iterable[Mount]) -> str:
    """The real path of its folder, where that has to be opened without following a link; "" where its own may be.

    :param mounts: all of the machine.
    :raises DistrustedError: it leads through a link in another share, and not where it did when it was shared.
    :raises OSError: it leads in a circle.
    """
    around, way = _around(mount, mounts), way_of(mount.source)
    outer = next(filter(None, (_outer_of(link, around) for link in way.links)), None)
    if outer is None:
        return way.real if _outer_of(way.real, around) else ""
    if not mount.leads_to:
        why = f"its path leads through a link in {outer}, where a container could have put it"
        raise DistrustedError(errno.ELOOP, why, mount.source)
    if way.real != mount.leads_to:
        why = f"it led to {mount.leads_to} when it was shared, and leads elsewhere now"
        raise DistrustedError(errno.ELOOP, why, mount.source)
    return way.real


def why_not(mount: Mount, mounts: Iterable[Mount]) -> str | None:
    """What is wrong with a share's folder; None when it can be shared.

    :param mounts: all of the machine.
    """
    try:
        unlinked_path(mount, mounts)
    except DistrustedError as fault:
        return f"{fault.strerror}; if that is meant, name it anew: hostvm mount rm, then hostvm mount add"
    except OSError:
        return check_source(mount) or "it leads in a circle"
    return check_source(mount)


def as_typed(mount: Mount, mounts: Sequence[Mount]) -> Mount:
    """A share that the user names now: a link on its way is meant to lead where it leads now.

    Where the guest has that link already, by another share, what it leads to is where it leads in the guest.

    :raises ValueError: what it leads to cannot be there; the reason reads after the words.
    """
    real, target = os.path.realpath(mount.source), mount.target
    if real == mount.source:
        return mount
    with suppress(OSError):
        if any(_outer_of(link, _around(mount, mounts)) for link in way_of(mount.source).links):
            # Not by the deepest share alone: that may be the one that the link was named for before.
            target = "" if any(guest_path((one,), mount.source) == target for one in mounts) else target
    try:
        return replace(mount, target=make_mount(real, target).target, leads_to=real)
    except ValueError as fault:
        raise ValueError(f"leads to {real!a}, which {fault}") from None


def moved_by(outer: Mount, mounts: Sequence[Mount]) -> list[tuple[Mount, Mount]]:
    """Shares whose place in the guest becomes a link with a new one around them, each as it was and as it has to be.

    That is where the link leads, as if they were named after the new one. One that was not named as a link, or that
    leads elsewhere now, stays as it is: a container may have put the link.

    :raises ValueError: what one leads to cannot be there; the reason reads by itself.
    """
    found = []
    for one in mounts:
        if not one.leads_to or os.path.realpath(one.source) != one.leads_to:
            continue
        try:
            now = as_typed(one, [outer])
        except ValueError as fault:
            raise ValueError(f"{one.source} {fault}") from None
        if now.target != one.target:
            found.append((one, now))
    return found


def is_there(mount: Mount, mounts: Iterable[Mount]) -> bool:
    """Whether the guest has what `as_typed` gives already, to read and to write."""
    paths = {mount.source, mount.leads_to or mount.source}
    return not mount.readonly and any(guest_path(mounts, path) == mount.target for path in paths)


def typed_mounts(words: list[str], besides: tuple[Mount, ...] | None = None) -> tuple[Mount, ...]:
    """What `--mount` options ask for.

    :param besides: as of `option_mounts`.
    :raises ValueError: with a reason that reads after the words.
    """
    besides = default_mounts() if besides is None else besides
    mounts, own = option_mounts(words, besides), {one.target for one in besides}
    found = []
    for one in mounts:
        try:
            others = [other for other in mounts if other is not one and one.target not in own]
            found.append(as_typed(one, others))
        except ValueError as fault:
            raise ValueError(f"{one.source} {fault}") from None
    return check_mounts(tuple(found))
