"""Debian's order of versions: `[epoch:]upstream[-revision]`, deb-version(7)."""

from __future__ import annotations

import re
from functools import total_ordering

_PIECES = re.compile(r"([^0-9]*)([0-9]*)")
_VALID = re.compile(r"(?:\d+:)?[A-Za-z0-9.+~\-]+\Z", re.ASCII)


@total_ordering
class Version:
    """A version that compares as dpkg compares it.

    :raises ValueError: not a version.
    """

    __slots__ = ("_key",)

    def __init__(self, text: str) -> None:
        if _VALID.match(text) is None or text.endswith("-"):
            raise ValueError(f"not a version: {text!r}")
        epoch, colon, rest = text.partition(":")
        if not colon:
            epoch, rest = "0", text
        upstream, dash, revision = rest.rpartition("-")
        if not dash:
            upstream, revision = rest, "0"
        self._key = (int(epoch), _part_key(upstream), _part_key(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def is_version(text: str) -> bool:
    """Whether `Version` takes it."""
    try:
        Version(text)
    except ValueError:
        return False
    return True


def _part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Alternating non-digits and numbers. `~` sorts before the end, the end before letters, those before the rest.

    The end of a non-digit piece is told by a 0, so that `1.0~` comes before `1.0` and that before `1.0a`.
    """
    pieces = [(text, digits) for text, digits in _PIECES.findall(part) if text or digits]
    key = [((*map(_weight, text), 0), int(digits or 0)) for text, digits in pieces]
    # An end of its own, so that a longer version compares with the end of a shorter one, not with nothing.
    return (*key, ((0,), 0))


def _weight(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256
