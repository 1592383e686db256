"""Writing kmod's binary indexes (libkmod/libkmod-index.c): a trie that modprobe looks names and aliases up in.

A file is a magic, a version and the root's offset, then the nodes, each followed by those below it; all numbers are
32 bits, big-endian. A node holds what its offset's high bits say, in this order: the characters that all keys
below it share after the one that led here; children by their next character, from the first to the last there is;
values, the lowest priority number first.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, NamedTuple

from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = 0xB007F457
VERSION = 0x00020001
PREFIX = 0x80000000
VALUES = 0x40000000
CHILDREN = 0x20000000

Values = dict[str, list[tuple[int, str]]]


def write_index(entries: Iterable[tuple[str, str, int]]) -> bytes:
    """An index of (key, value, priority); of equal priorities the one that came last stands first, as kmod has it.

    :raises ImageError: a key is not ASCII; the format has no place for it.
    """
    values: Values = {}
    for key, value, priority in entries:
        if not key.isascii():
            raise ImageError(
                f"modprobe could not look up {key!r}, which is not ASCII",
                f"of module {value}",
                "Leave the module out of the recipe's `modules`, then `hostvm image build`",
            )
        values.setdefault(key, []).insert(0, (priority, value))
    out = bytearray(struct.pack(">3I", MAGIC, VERSION, 0))
    todo = [_Node(8, sorted(values), 0, 0)]
    while todo:
        todo += reversed(_write_node(out, values, todo.pop()))
    return bytes(out)


class _Node(NamedTuple):
    """A node that is to be written.

    :param place: where its offset is to stand.
    :param keys: sorted; the same up to `end`, and up to `start` told by the nodes above.
    """

    place: int
    keys: list[str]
    start: int
    end: int


def _write_node(out: bytearray, values: Values, node: _Node) -> list[_Node]:
    """Add a node; returns those right below it, which follow, each with all below that."""
    place, keys, start, end = node
    ends_here = keys[:1] if keys and len(keys[0]) == end else []
    groups = itertools.groupby(keys[len(ends_here) :], key=lambda key: key[end])
    children = {ord(letter): list(below) for letter, below in groups}
    offset = len(out)
    if start < end:
        offset |= PREFIX
        out += keys[0][start:end].encode("ascii") + b"\0"
    todo: list[_Node] = []
    if children:
        offset |= CHILDREN
        first, last = min(children), max(children)
        out += bytes((first, last))
        for letter, below in children.items():
            shared = _shared(below[0], below[-1])
            todo.append(_Node(len(out) + 4 * (letter - first), below, end + 1, shared))
        out += bytes(4 * (last - first + 1))
    for key in ends_here:
        offset |= VALUES
        found = sorted(values[key], key=lambda value: value[0])
        out += struct.pack(">I", len(found))
        for priority, value in found:
            out += struct.pack(">I", priority) + value.encode(errors="surrogateescape") + b"\0"
    struct.pack_into(">I", out, place, offset)
    return todo


def _shared(one: str, other: str) -> int:
    """How many characters they begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (left, right) in pairs if left != right), min(len(one), len(other)))
