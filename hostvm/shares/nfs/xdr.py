"""XDR, in which NFS writes everything (RFC 4506)."""

from __future__ import annotations

import struct

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")


class XdrError(Exception):
    """Arguments that end too early, or are larger than they may be."""


class Reader:
    """Takes a call's fields in their order. Every method raises XdrError where there is nothing left."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def u32(self) -> int:
        """A number of 32 bits, a truth value or a choice."""
        return int(self._unpack(U32))

    def u64(self) -> int:
        """A number of 64 bits."""
        return int(self._unpack(U64))

    def opaque(self, most: int) -> memoryview:
        """Bytes with their length before them, not copied.

        :param most: longer ones are refused.
        """
        length = self.u32()
        if length > most:
            raise XdrError(f"{length} bytes where {most} may be")
        return self.fixed(length)

    def fixed(self, length: int) -> memoryview:
        """So many bytes, not copied."""
        end = self._at + length
        if end > len(self._data):
            raise XdrError("bytes beyond the end of their call")
        found = self._data[self._at : end]
        self._at = end + -length % 4
        return found

    def text(self, most: int) -> str:
        """A name or path; bytes that are not UTF-8 survive as surrogates."""
        return bytes(self.opaque(most)).decode("utf-8", "surrogateescape")

    def _unpack(self, what: struct.Struct) -> int:
        end = self._at + what.size
        if end > len(self._data):
            raise XdrError("a call that is too short")
        (value,) = what.unpack_from(self._data, self._at)
        self._at = end
        return int(value)


def u32(value: int) -> bytes:
    """A number of 32 bits."""
    return U32.pack(value)


def u64(value: int) -> bytes:
    """A number of 64 bits."""
    return U64.pack(value)


def opaque(data: bytes) -> bytes:
    """Bytes with their length before them, filled up to a multiple of four."""
    return U32.pack(len(data)) + data + bytes(-len(data) % 4)


def encode(text: str) -> bytes:
    """A name or path as bytes, as `Reader.text` reads it."""
    return text.encode("utf-8", "surrogateescape")
