"""Unpacking a tar stream of somebody else's so that nothing lands outside of one folder.

Not by tarfile's own filters: Pythons before 3.11.4, Debian 12's among them, have none, and "data" refuses the absolute
links that every root file system holds. A link is made as it is here, and nothing is ever written through one.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile


class OutsideError(Exception):
    """A member's name, or its link, leads out of the folder."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(f'invalid path "{name}": it leads out of "{folder}"')


class OccupiedError(Exception):
    """A folder would take the place of something else, or the other way round."""

    def __init__(self, place: str, folder: str, *, folder_there: bool) -> None:
        there, new = ("directory", "non-directory") if folder_there else ("non-directory", "directory")
        super().__init__(f'cannot overwrite {there} "{place}" with {new} "{folder}"')


def unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str, *, mode: int) -> None:
    """Extract one member below `folder`, as a file of this user's with the member's time.

    What is in its place goes first; a folder that is there stays.

    :param mode: the permissions it gets; a folder is writable for its user all the same, for what follows.
    :raises OutsideError: it leads out of `folder`.
    :raises OccupiedError: a folder for something else, or the other way round.
    :raises OSError: it cannot be written.
    """
    place = _inside(member.name, folder)
    _make_room(place, folder, member)
    if member.islnk() and os.path.islink(linked := _inside(member.linkname, folder)):  # noqa: PTH114
        os.symlink(os.readlink(linked), place)  # noqa: PTH115, PTH211 - some systems' link() follows it
        return
    member.mode = mode | (stat.S_IRWXU if member.isdir() else 0)
    if sys.platform != "win32":  # root's tarfile would give it to whoever the archive names
        member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    # Where Python has filters: this is one, and has done its work.
    tar.extraction_filter = _as_it_is
    tar.extract(member, folder)


def _as_it_is(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    del folder
    return member


def _inside(name: str, folder: str) -> str:
    """Where a member of this name lands; its last part may be a link, which is replaced."""
    root, place = os.path.realpath(folder), os.path.join(folder, name)  # noqa: PTH118 - text throughout
    parent = os.path.realpath(os.path.dirname(place))  # noqa: PTH120
    if ".." in name.replace(os.sep, "/").split("/") or os.path.commonpath([root, parent]) != root:
        raise OutsideError(name, folder)
    return place


def _make_room(place: str, folder: str, member: tarfile.TarInfo) -> None:
    if not os.path.lexists(place):
        return
    folder_there = os.path.isdir(place) and not os.path.islink(place)  # noqa: PTH112, PTH114
    if folder_there != member.isdir():
        raise OccupiedError(place, folder, folder_there=folder_there)
    if not folder_there:
        os.unlink(place)  # noqa: PTH108
