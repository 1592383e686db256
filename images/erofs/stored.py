"""Content inside an erofs that was written here before: read, or taken as it is packed."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import IO, TYPE_CHECKING, NamedTuple

from images.erofs.clusters import CHUNK
from images.erofs.ondisk import BLOCK, COMPRESSED_FULL
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place(NamedTuple):
    """Where a file system has a content.

    :param layout: PLAIN, COMPRESSED_FULL or INLINE.
    :param where: the first byte.
    :param blocks: of a compressed one: those of each cluster; they follow each other.
    """

    layout: int
    where: int
    blocks: tuple[int, ...] = ()


class FormerRoot:
    """An erofs that is open; threads may share it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = Lock()

    def read(self, where: int, size: int) -> bytes:
        """`size` bytes from its byte `where`.

        :raises ImageError: it does not have them any more.
        """
        with self._lock:
            self._file.seek(where)
            data = self._file.read(size)
        if len(data) != size:
            raise ImageError(f"{self._file.name} became shorter", None, "Try again")
        return data


@dataclass(frozen=True, slots=True)
class Stored:
    """One content of a former root; a `Source` of a Slice of `size` bytes."""

    root: FormerRoot
    place: Place
    size: int

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, unpacked."""
        if self.place.layout != COMPRESSED_FULL:
            return self.root.read(self.place.where + start, size)
        first, end = start // CHUNK, -(-(start + size) // CHUNK)
        data = b"".join(_unpack(packed, length) for length, packed in self.clusters(first, end))
        return data[start - first * CHUNK :][:size]

    def clusters(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Each cluster's length of content in bytes, and its blocks; without what fills up a last plain one.

        :param first: the number of the first that is wanted.
        :param end: the number of the first that is not.
        """
        lengths = [min(CHUNK, self.size - at) for at in range(0, self.size, CHUNK)]
        taken = self.place.blocks or [-(-length // BLOCK) for length in lengths]
        where = self.place.where + BLOCK * sum(taken[:first])
        for length, blocks in list(zip(lengths, taken, strict=True))[first:end]:
            whole = blocks == -(-length // BLOCK)
            yield length, self.root.read(where, length if whole else blocks * BLOCK)
            where += blocks * BLOCK


def _unpack(packed: bytes, length: int) -> bytes:
    import lz4.block

    if len(packed) == length:
        return packed
    data: bytes = lz4.block.decompress(packed.lstrip(b"\0"), uncompressed_size=length)
    return data
