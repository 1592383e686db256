"""What a package's data.tar says of its files, without their content."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

NAMES = "utf-8"
"""How names are written in packages; left alone, tarfile takes this computer's locale for it."""

FILE, HARD_LINK, LINK, FOLDER = (
    kind.decode() for kind in (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
)
"""The types a tree may hold, as a tar has them."""


class Member(NamedTuple):
    """One name.

    :param name: as it is written.
    :param type: tar's letter.
    :param mode: permission bits, and others if a tar has some.
    :param target: of a link of either kind.
    :param offset: where the content is in the tar, in bytes.
    """

    name: str
    type: str
    mode: int
    uid: int
    gid: int
    target: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Members:
    """All of a package's.

    :param newest: the latest time of any, seconds since 1970.
    """

    newest: int
    entries: tuple[Member, ...]


def read_members(data_tar: Path) -> Members:
    """Those of a decompressed tar."""
    newest, entries = 0, []
    with tarfile.open(data_tar, "r:", encoding=NAMES) as tar:
        for one in tar:
            newest = max(newest, int(one.mtime))
            kind = FILE if one.isreg() and not one.issparse() else one.type.decode("latin-1")
            place = (one.offset_data, one.size) if kind == FILE else (0, 0)
            entries.append(Member(one.name, kind, one.mode, one.uid, one.gid, one.linkname, *place))
    return Members(newest, tuple(entries))
