"""Remote procedure calls over a stream (ONC RPC version 2, RFC 5531)."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from hostvm.shares.fields import WireError
from hostvm.shares.nfs.xdr import Reader, u32

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALL, _REPLY = 0, 1
_VERSION = 2
_AUTH_SYS = 1
_LAST = 0x80000000
_CREDENTIALS_MOST = 400  # RFC 5531, 8.2
_NAME_MOST = 255
_GROUPS_MOST = 16
_MARK = struct.Struct(">I")
_HEAD = struct.Struct(">8I")
"""What begins a call, its credentials' flavor and length included."""

_ANSWERED = struct.Struct(">6I")

RECORD_MOST = 1024 * 1024 + 16 * 1024
"""Bytes of one call: the largest WRITE, and what stands before its data."""

SUCCESS, UNKNOWN_PROGRAM, UNKNOWN_VERSION, UNKNOWN_PROCEDURE, GARBAGE = range(5)
"""How a call went, before any program's own status."""


class RpcError(Exception):
    """The other side does not speak RPC."""


class Call(NamedTuple):
    """One call. `user` and `group` are what the guest's kernel says of the caller; root's where it says nothing.

    `machine` is what it calls itself; "" where it does not.
    """

    number: int
    program: int
    version: int
    procedure: int
    machine: str
    user: int
    group: int
    groups: tuple[int, ...]
    arguments: Reader


def take_records(waiting: bytearray) -> Iterator[memoryview]:
    """Takes whole records off the beginning of what has arrived.

    :raises RpcError: a record that is larger than any call.
    """
    while (found := _whole(waiting)) is not None:
        record, used = found
        del waiting[:used]
        yield memoryview(record)


def _whole(waiting: bytearray) -> tuple[bytes, int] | None:
    """The first record, which may come in pieces, and how many bytes it takes."""
    parts: list[bytes] = []
    at = size = 0
    while at + 4 <= len(waiting):
        (mark,) = _MARK.unpack_from(waiting, at)
        length = mark & ~_LAST
        size += length
        if size > RECORD_MOST or (not length and not mark & _LAST):
            raise RpcError(f"a record of {size} bytes")
        end = at + 4 + length
        if end > len(waiting):
            return None
        with memoryview(waiting) as there, there[at + 4 : end] as piece:
            parts.append(bytes(piece))
        at = end
        if mark & _LAST:
            return b"".join(parts), at
    return None


def record(body: bytes) -> bytes:
    """A reply as it is sent."""
    return u32(_LAST | len(body)) + body


def parse_call(data: memoryview) -> Call:
    """:raises RpcError: it is none."""
    try:
        reader = Reader(data)
        number, kind, version, *asked, flavor, length = _HEAD.unpack(reader.take(_HEAD.size))
        if kind != _CALL or version != _VERSION:
            raise RpcError("not a call of RPC version 2")
        if length > _CREDENTIALS_MOST:
            raise RpcError(f"{length} bytes of credentials")
        credentials = reader.fixed(length)
        reader.u32()
        reader.opaque(_CREDENTIALS_MOST)
        caller = _caller(bytes(credentials)) if flavor == _AUTH_SYS else ("", 0, 0, ())
    except WireError as fault:
        raise RpcError(str(fault)) from None
    program, program_version, procedure = asked
    return Call(number, program, program_version, procedure, *caller, reader)


@lru_cache(maxsize=64)
def _caller(credentials: bytes) -> tuple[str, int, int, tuple[int, ...]]:
    reader = Reader(memoryview(credentials))
    reader.u32()
    name, user, group, count = reader.text(_NAME_MOST), reader.u32(), reader.u32(), reader.u32()
    if count > _GROUPS_MOST:
        raise WireError(f"{count} groups")
    return name, user, group, tuple(reader.u32() for _ in range(count))


def reply(number: int, state: int, body: bytes = b"") -> bytes:
    """A reply to a call that was taken, whatever came of it."""
    return _ANSWERED.pack(number, _REPLY, 0, 0, 0, state) + body


def denial(number: int) -> bytes:
    """A reply to a call of somebody who may not make any."""
    return struct.pack(">5I", number, _REPLY, 1, 1, 1)  # MSG_DENIED, AUTH_ERROR, AUTH_BADCRED
