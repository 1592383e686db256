"""A folder's names in an order that stays as it is while some of them are removed.

NFS reads a folder piece by piece, each beginning after a cookie of the one before; that must hold when the names that
were told are removed meanwhile, as `rm -r` does, and when another agent answers. So names come in the order of their
hashes, which are the cookies.
"""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode
from hostvm.shares.nfs.places import number_of

if TYPE_CHECKING:
    from hostvm.shares.tree import Tree

_SECONDS = 2.0
_FIRST = 16
"""Cookies below are those of `.` and `..`."""


class Listings:
    """The names of the folder that was read last are kept between its pieces. One thread at a time."""

    def __init__(self) -> None:
        self._key: object = None
        self._until = 0.0
        self._entries: list[tuple[int, str]] = []

    def after(self, key: object, tree: Tree, path: str, cookie: int) -> list[tuple[int, str]]:
        """Cookies and names that follow a cookie; 0 reads the folder anew.

        :param key: names the folder.
        """
        if not cookie or key != self._key or self._until < time.monotonic():
            self._entries = sorted(entry for name in tree.names(path) if (entry := _entry(name)) is not None)
            self._key, self._until = key, time.monotonic() + _SECONDS
        return self._entries[bisect.bisect_right(self._entries, cookie, key=lambda entry: entry[0]) :]


def _entry(name: str) -> tuple[int, str] | None:
    """None: a name of Windows that is half a character, and cannot be told."""
    try:
        return max(number_of(encode(name)), _FIRST), name
    except UnicodeEncodeError:
        return None
