"""What a server gives out: a share, with what it remembers of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from hostvm.shares.fields import encode
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.descriptors import Descriptors
from hostvm.shares.nfs.parting import Parting
from hostvm.shares.nfs.places import GONE, Places, join, number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hostvm.shares.nfs.places import PlaceStore
    from hostvm.shares.tree import Seen, Tree

TOKEN_BYTES, NUMBER_BYTES = 16, 8


def token_of(name: str) -> bytes:
    """What handles of the share of this secret name begin with; it does not tell the name."""
    return hashlib.sha256(b"nfs " + name.encode()).digest()[:TOKEN_BYTES]


class Export:
    """One share. Methods that take a number raise OSError, ESTALE where its file is gone.

    :param name: the share's secret name.
    """

    def __init__(self, tree: Tree, name: str, store: PlaceStore) -> None:
        self.tree = tree
        tree.heeds_modes = False  # ACCESS tells them to all but root in the guest
        self.token = token_of(name)
        self.system = number_of(b"share " + self.token)
        self.places = Places(store, self.system, tree)
        self.files = Descriptors(tree, self.places)
        self.parting = Parting()
        self.just_made: OrderedDict[int, bytes] = OrderedDict()
        """The word by which a call that is sent once more is known to have made a file itself (EXCLUSIVE), until the
        guest goes on with it: it has the same word for all that one of its threads makes within some milliseconds."""

        self.shows_ghosts = False
        """Whether who asks now is to see what is gone, to take it away: the helper of `hostvm.shares.events`."""

    def handle(self, number: int) -> bytes:
        """What the guest calls a file."""
        return self.token + number.to_bytes(NUMBER_BYTES, "big")

    def close(self) -> None:
        """Let go of files that are open. Idempotent."""
        self.files.close()
        self.parting.settle()

    # ---- looking

    def look(self, number: int) -> tuple[Seen, str | None]:
        """What is known of a file, and its path; None for one that is open, but has its name no more."""
        for path in self.places.paths(number):
            try:
                seen = self.tree.see(path)
            except OSError as fault:
                if fault.errno in GONE:
                    continue
                raise
            if self.places.number(seen, path) == number:
                return seen, path
        if (heir := self._successor(number)) is not None:
            return heir[0], None
        if (opened := self.files.peek(number)) is not None:
            return self.tree.see_open(opened), None
        if (heir := self._heir(number)) is not None:
            return heir[0], None
        raise OSError(errno.ESTALE, "it is gone")

    def _heir(self, number: int) -> tuple[Seen, str] | None:
        """The file that took a file's place here, as a save by rename does: it is what those read who had the first.

        A container that has a single file knows it by its number alone. Whoever asks for the name gets the other's.
        """
        if (place := self.places.known(number)) is None or number == ghost_number(*place):
            return None
        try:
            path = self.places.path(number)
            seen = self.tree.see(path)
        except OSError:
            return None
        return (seen, path) if stat.S_ISREG(seen.found.st_mode) else None

    def _successor(self, number: int) -> tuple[Seen, str] | None:
        """The heir of a file that containers have by itself: they are to see it at once, not when nobody reads the old.

        Who has it open goes on with the new one, too; not while it is written, or the two would be mixed.
        """
        alone = self.tree.known.alone
        if not alone or self.files.is_written(number) or self.places.known(number) is None:
            return None
        with contextlib.suppress(OSError):
            if self.tree.outside(self.places.path(number)) in alone:
                heir = self._heir(number)
                return heir if heir is not None and self.places.number(*heir) != number else None
        return None

    def content(self, number: int) -> int:
        """A descriptor to read a file by, which stays this object's; of one that took its place, if it is gone."""
        if (heir := self._successor(number)) is None:
            try:
                return self.files.get(number, write=False)
            except OSError as fault:
                heir = self._heir(number) if fault.errno == errno.ESTALE else None
                if heir is None:
                    raise
        return self.files.get(self.places.number(*heir), write=False, path=heir[1])

    def folder(self, number: int) -> tuple[os.stat_result, str]:
        """What is known of a folder, and its path."""
        seen, path = self.look(number)
        if path is None:
            raise OSError(errno.ESTALE, "it is gone")
        return seen.found, path

    def whereabouts(self, number: int) -> tuple[os.stat_result | None, str]:
        """As `folder`; of one that is gone nothing, and the path that it had."""
        try:
            return self.folder(number)
        except OSError as fault:
            if fault.errno != errno.ESTALE:
                raise
        return None, self.places.path(number)

    def attributes(self, number: int) -> bytes:
        """`fattr3` of a file, also of one that the guest is about to be told to take away."""
        return self.told(number)[0]

    def told(self, number: int) -> tuple[bytes, os.stat_result | None, str | None]:
        """`attributes`, and what they were made of: nothing for what only the guest still sees; path as of `look`."""
        try:
            seen, path = self.look(number)
        except OSError as fault:
            if fault.errno != errno.ESTALE or not (ghost := self._ghost(number)):
                raise
            return ghost, None, None
        return self.seen(seen, number, path), seen.found, path

    def _ghost(self, number: int) -> bytes:
        """`fattr3` of what only the guest still sees; "" where it is not to see anything."""
        place = self.places.known(number)
        if not self.shows_ghosts or place is None or number != ghost_number(*place):
            return b""
        kind = self.tree.known.buried(self.tree.outside(self.places.path(number)))
        return wire.ghost(kind, self.system, number) if kind else b""

    def seen(self, seen: Seen, number: int, path: str | None) -> bytes:
        """`fattr3`, which the guest knows from now on."""
        if path is not None:
            self.tree.known.shown(self.tree.outside(path), seen.found.st_mtime_ns // 10**9)
        return wire.attributes(seen.found, seen.owner, self.system, number)

    def opened(self, number: int, descriptor: int) -> bytes:
        """`fattr3` of a file that is open."""
        return self.seen(self.tree.look_open(descriptor), number, self.places.path(number))

    def after(self, number: int) -> bytes:
        """`post_op_attr`, without attributes where there are none any more."""
        try:
            return wire.maybe(self.attributes(number))
        except OSError:
            return wire.maybe(None)

    def changed(self, found: os.stat_result | None, number: int) -> bytes:
        """`wcc_data`: what was known before, and what is there now."""
        return wire.before(found) + self.after(number)

    # ---- names in folders

    def child(self, folder: int, path: str, name: str) -> tuple[int, bytes]:
        """The number and `fattr3` of what has that name.

        :param path: the folder's.
        :raises OSError: ENOENT: nothing has.
        """
        inside = join(path, name)
        try:
            seen = self.tree.see(inside)
        except (FileNotFoundError, NotADirectoryError):
            kind = self.tree.known.buried(self.tree.outside(inside)) if self.shows_ghosts else ""
            if not kind:
                raise
            number = ghost_number(folder, name)
            self.places.note(folder, [(number, name)])
            return number, wire.ghost(kind, self.system, number)
        number = self.places.number(seen, inside)
        self.places.note(folder, [(number, name)])
        return number, self.seen(seen, number, inside)

    def children(self, path: str, names: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
        """Names in a folder with their numbers and `fattr3`; those that vanished are left out."""
        outside = self.tree.outside(path)
        for name, seen in self.tree.see_each(path, names):
            number = self.places.number(seen, join(path, name))
            self.tree.known.shown(os.path.join(outside, name), seen.found.st_mtime_ns // 10**9)  # noqa: PTH118 - text
            yield name, number, wire.attributes(seen.found, seen.owner, self.system, number)


def ghost_number(folder: int, name: str) -> int:
    """The number of what is not there any more, never that of a file that was."""
    return number_of(b"ghost %d " % folder + encode(name))
