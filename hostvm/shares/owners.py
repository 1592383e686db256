"""Whose a shared file is in the guest's eyes: what was set there, kept in an extended attribute (Linux)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from hostvm.shares.open_folder import pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    with contextlib.suppress(OSError):  # the file system keeps no attributes
        try:
            _keep(f"/proc/self/fd/{place.folder}/{place.name}", owner, follow_symlinks=False)
        except PermissionError:
            with pinned(place) as name, _writable(name):
                _keep(name, owner)


def set_owner_of_open(descriptor: int, owner: tuple[int, int]) -> None:
    """The same for a file that is open."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # the file system keeps no attributes
        try:
            _keep(descriptor, owner)
        except PermissionError:
            with _writable(descriptor):
                _keep(descriptor, owner)


def _keep(file: int | str, owner: tuple[int, int], *, follow_symlinks: bool = True) -> None:
    if sys.platform != "linux":
        return
    if owner == (0, 0):
        os.removexattr(file, _OWNER, follow_symlinks=follow_symlinks)
    else:
        os.setxattr(file, _OWNER, b"%d:%d" % owner, follow_symlinks=follow_symlinks)


@contextlib.contextmanager
def _writable(file: int | str) -> Iterator[None]:
    """For the block, as only what its owner may write to can have attributes, whoever changes them.

    :raises OSError: it is not the user's; PermissionError also where that is not what stood against it.
    """
    mode = stat.S_IMODE(os.stat(file).st_mode)  # noqa: PTH116 - may be a descriptor
    if mode & stat.S_IWUSR:
        raise PermissionError(errno.EPERM, "a kind of file, or a file system, that has no attributes")
    os.chmod(file, mode | stat.S_IWUSR)  # noqa: PTH101
    try:
        yield
    finally:
        os.chmod(file, mode)  # noqa: PTH101


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
