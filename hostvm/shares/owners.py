"""Whose a shared file is in the guest's eyes: what was set there, kept in an extended attribute (Linux)."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostvm.shares.open_folder import Place

_OWNER = "user.hostvm.owner"
SAME = 0xFFFFFFFF
"""A user or group that chown(2) is to leave as it is."""


def owner_of(place: Place) -> tuple[int, int]:
    """What was set for a name; root where nothing was."""
    if sys.platform != "linux":
        return (0, 0)
    try:
        return _get_owner(f"/proc/self/fd/{place.folder}/{place.name}")
    except OSError:
        return (0, 0)


def owner_of_open(descriptor: int) -> tuple[int, int]:
    """The same of a file that is open."""
    try:
        return _get_owner(descriptor)
    except OSError:
        return (0, 0)


def set_owner(place: Place, owner: tuple[int, int]) -> None:
    """Keep it for a name, where it can be kept."""
    if sys.platform != "linux":
        return
    path = f"/proc/self/fd/{place.folder}/{place.name}"
    with contextlib.suppress(OSError):  # the file system keeps no attributes
        if owner == (0, 0):
            os.removexattr(path, _OWNER, follow_symlinks=False)
        else:
            os.setxattr(path, _OWNER, b"%d:%d" % owner, follow_symlinks=False)


def set_owner_of_open(descriptor: int, owner: tuple[int, int]) -> None:
    """The same for a file that is open."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the file system keeps no attributes
            os.setxattr(descriptor, _OWNER, b"%d:%d" % owner)


def _get_owner(path: str | int) -> tuple[int, int]:
    """The owner that was set; root otherwise.

    :raises OSError: there is none.
    """
    if sys.platform != "linux":
        return (0, 0)
    value = os.getxattr(path, _OWNER) if isinstance(path, int) else os.getxattr(path, _OWNER, follow_symlinks=False)
    user, _, group = value.partition(b":")
    owner = (int(user), int(group)) if user.isdigit() and group.isdigit() else (0, 0)
    return owner if max(owner) < SAME else (0, 0)
