"""What `docker cp` calls things: where a copy lands, and under which name. Pure; the rules are docker's client's.

A path that ends with `/.` means a folder's content, one that ends with `/` a folder; a container's paths are POSIX's,
this computer's its own.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


class CopyError(Exception):
    """The copy cannot be made; the text is what docker's client would say."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy.

    :param flavour: `os.path` for this computer, `posixpath` for a container.
    :param rebase: the name it was asked for by, where that led over a link.
    """

    path: str
    flavour: ModuleType = posixpath
    exists: bool = False
    folder: bool = False
    rebase: str = ""


def split_place(word: str) -> tuple[str, str]:
    """Container ("" for this computer) and path of an argument of `docker cp`."""
    container, colon, path = word.partition(":")
    if not colon or container.startswith(".") or os.path.isabs(word) or os.path.splitdrive(word)[0]:  # noqa: PTH117
        return "", word
    return container, path


def split_entry(path: str, flavour: ModuleType) -> tuple[str, str]:
    """A path's folder and last name; `x/.` is `.` in `x`."""
    clean = flavour.normpath(path)
    if is_content(path, flavour):
        return str(clean), "."
    # Of the root both are the root, as Go has it.
    return str(flavour.dirname(clean)) or ".", str(flavour.basename(clean)) or str(clean)


def is_content(path: str, flavour: ModuleType) -> bool:
    """Whether the path means what is in a folder, not the folder."""
    return str(flavour.basename(path)) == "."


def asserts_folder(path: str, flavour: ModuleType) -> bool:
    """Whether the path itself says that it is a folder."""
    return path.endswith(("/", flavour.sep)) or is_content(path, flavour)


def absolute(path: str, flavour: ModuleType = os.path) -> str:
    """The absolute path, with what its end says kept."""
    return keep_ending(str(flavour.abspath(path)), path, flavour)


def keep_ending(clean: str, path: str, flavour: ModuleType) -> str:
    """`clean` with the `/` or `/.` that `path` ends with."""
    if is_content(path, flavour):
        return f"{clean}{flavour.sep}."
    if path.endswith(("/", flavour.sep)) and not clean.endswith(flavour.sep):
        return str(clean + flavour.sep)
    return clean


def renamed_by_link(path: str, resolved: str, flavour: ModuleType) -> tuple[str, str]:
    """Where a link led, with the ending kept, and the name that the copy gets all the same ("": its own)."""
    target = keep_ending(resolved, path, flavour)
    asked = split_entry(path, flavour)[1]
    return target, asked if asked != split_entry(target, flavour)[1] and asked != "." else ""


def landing(source: End, target: End) -> tuple[str, str]:
    """The folder that the archive is unpacked in, and what its first name becomes there.

    :raises CopyError: a folder onto a file, or a file into a folder that does not exist.
    """
    if target.folder:
        return target.path, source.rebase or split_entry(source.path, source.flavour)[1]
    if target.exists and source.folder:
        raise CopyError("cannot copy directory")
    if not target.exists and not source.folder and asserts_folder(target.path, target.flavour):
        raise CopyError("no such directory")
    return split_entry(target.path, target.flavour)


def renamed(member: str, was: str, becomes: str) -> str:
    """An archive member's name below a first name that changes; never an absolute one."""
    rest = member if was == "/" else member[len(was) :] if member == was or member.startswith(f"{was}/") else None
    name = member if rest is None else f"{becomes}/{rest.lstrip('/')}"
    return name.strip("/") or "."
