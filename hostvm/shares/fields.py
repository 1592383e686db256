"""Fields of a binary protocol, taken in their order: what NFS' XDR and SFTP write alike."""

from __future__ import annotations

import struct

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")


class WireError(Exception):
    """The other side does not speak the protocol: bytes that end too early, or are more than there may be."""


class Fields:
    """Takes fields of a message. Every method raises WireError where there is nothing left."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def u32(self) -> int:
        """A number of 32 bits, a truth value or a choice."""
        return self._unpack(U32)

    def u64(self) -> int:
        """A number of 64 bits."""
        return self._unpack(U64)

    def take(self, length: int) -> memoryview:
        """So many bytes, not copied."""
        end = self._at + length
        if end > len(self._data):
            raise WireError("bytes beyond the end of their message")
        found, self._at = self._data[self._at : end], end
        return found

    def _unpack(self, what: struct.Struct) -> int:
        try:
            value: int = what.unpack_from(self._data, self._at)[0]
        except struct.error:
            raise WireError("a message that is too short") from None
        self._at += what.size
        return value


def decode(data: memoryview) -> str:
    """A name or path; bytes that are not UTF-8 survive as surrogates."""
    return bytes(data).decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """A name or path as bytes, as `decode` reads it."""
    return text.encode("utf-8", "surrogateescape")
