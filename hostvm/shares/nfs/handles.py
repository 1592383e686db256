"""Which file of which share a call speaks of."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.exports import NUMBER_BYTES, TOKEN_BYTES
from hostvm.shares.nfs.places import MASK
from hostvm.shares.nfs.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.shares.nfs.exports import Export
    from hostvm.shares.nfs.xdr import Reader
    from hostvm.shares.tree import Tree


class Handles:
    """Reads handles and names of the call that is being answered.

    :param find_export: the share whose handles begin with this; raises KeyError.
    """

    def __init__(self, find_export: Callable[[bytes], Export]) -> None:
        self._find_export = find_export
        self.complete = False
        """Whether all shares are given out that ever will be; until then nothing is gone."""

        self.told_by_us = False
        """Whether the call comes from what acts events out in the guest."""

        self._held: Tree | None = None

    def file(self, reader: Reader) -> tuple[Export, int]:
        """The share, and the file's number there.

        :raises RefusedError: there is no such share, or not yet.
        """
        data = bytes(reader.opaque(wire.HANDLE_MOST))
        token, number = data[:TOKEN_BYTES], int.from_bytes(data[TOKEN_BYTES:], "big")
        if len(data) != TOKEN_BYTES + NUMBER_BYTES or number > MASK:
            raise RefusedError(wire.STALE)
        try:
            export = self._find_export(token)
        except KeyError:
            # Told that it is stale, the guest's kernel would never ask for that file again.
            raise RefusedError(wire.STALE if self.complete else wire.JUKEBOX) from None
        export.shows_ghosts = self.told_by_us
        if self._held is None:
            self._held = export.tree
            self._held.hold()
        return export, number

    def let_go(self) -> None:
        """The call is answered: folders that were opened for it, each once, are open no more. Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            held.let_go()

    def name(self, reader: Reader) -> str:
        """A name that is to be in a folder.

        :raises OSError: nothing can be called that.
        """
        return checked(reader.text(wire.PATH_MOST))


def checked(name: str) -> str:
    """The name.

    :raises OSError: nothing can be called that.
    """
    if len(encode(name)) > wire.NAME_MOST:
        raise OSError(errno.ENAMETOOLONG, "a name that is too long")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "not a name")
    return name
