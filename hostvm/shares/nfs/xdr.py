"""XDR, in which NFS writes everything (RFC 4506)."""

from __future__ import annotations

from hostvm.shares.fields import U32, U64, Fields, WireError, decode


class Reader(Fields):
    """Takes a call's fields in their order."""

    __slots__ = ()

    def opaque(self, most: int) -> memoryview:
        """Bytes with their length before them, not copied.

        :param most: longer ones are refused.
        """
        length = self.u32()
        if length > most:
            raise WireError(f"{length} bytes where {most} may be")
        return self.fixed(length)

    def fixed(self, length: int) -> memoryview:
        """So many bytes, not copied; what fills them up to a multiple of four is read over."""
        found = self.take(length)
        self._at += -length % 4
        return found

    def text(self, most: int) -> str:
        """A name or path, see `decode`."""
        return decode(self.opaque(most))


def u32(value: int) -> bytes:
    """A number of 32 bits."""
    return U32.pack(value)


def u64(value: int) -> bytes:
    """A number of 64 bits."""
    return U64.pack(value)


def opaque(data: bytes) -> bytes:
    """Bytes with their length before them, filled up to a multiple of four."""
    return U32.pack(len(data)) + data + bytes(-len(data) % 4)
