"""Where the requests of an HTTP/1.1 connection begin and end (RFC 9112). Pure: bytes in, facts out."""

from __future__ import annotations

import re

HEAD_MOST = 64 * 1024
"""Bytes of a head."""

END = b"\r\n\r\n"
"""Of a head."""

_LINE_MOST = 4096
_DIGITS_MOST = 18
"""Of a body's length; Python itself refuses to read a number of thousands of digits."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class BadRequestError(Exception):
    """Not a request that may be passed on; `status` is what its sender is told."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_fields(data: bytes) -> tuple[list[str], dict[str, list[str]]]:
    """The three words of a head's first line, and its fields by their names in lower case.

    :param data: all of it up to the empty line.
    :raises BadRequestError: it is none.
    """
    lines = data.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
        raise BadRequestError(400, "this is no HTTP/1.1 request")
    fields: dict[str, list[str]] = {}
    for line in lines[1:]:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name:
            raise BadRequestError(400, "a header line of the request is damaged")
        fields.setdefault(name.lower(), []).append(value.strip())
    return words, fields


def body_size(fields: dict[str, list[str]]) -> int | None:
    """Bytes of the body; None: in chunks.

    :raises BadRequestError: the fields say two things.
    """
    if "transfer-encoding" in fields:
        return None
    sizes = set(fields.get("content-length", ["0"]))
    size = sizes.pop()
    if sizes or len(size) > _DIGITS_MOST or not (size.isascii() and size.isdecimal()):
        raise BadRequestError(400, "the request's length is not clear")
    return int(size)


class Body:
    """A body that comes in pieces.

    :param size: its bytes; None: in chunks.
    :param keep: collect what it says.
    :ivar done: whether all of it came.
    :ivar content: what it says, without the chunks' own bytes; empty unless `keep`.
    """

    def __init__(self, size: int | None, *, keep: bool = False) -> None:
        self._chunked = size is None
        self._left = size or 0
        self._line = b""
        self._trailer = False
        self._keep = keep
        self.done = size == 0
        self.content = bytearray()

    def feed(self, data: bytes, at: int = 0) -> int:
        """Take what belongs to it of `data`, from `at` on; gives where that ends.

        :raises BadRequestError: a chunk's head is damaged.
        """
        while at < len(data) and not self.done:
            at = self._take(data, at) if self._left else self._take_line(data, at)
        return at

    def forget(self) -> None:
        """Keep nothing, neither of what came nor of what comes."""
        self._keep = False
        self.content.clear()

    def _take(self, data: bytes, at: int) -> int:
        taken = min(self._left, len(data) - at)
        if self._keep:
            ours = self._left - (2 if self._chunked else 0)  # each chunk ends with a line end
            self.content += data[at : at + max(0, min(taken, ours))]
        self._left -= taken
        self.done = not self._left and not self._chunked
        return at + taken

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1 or len(data)
        self._line += data[at:end]
        if len(self._line) > _LINE_MOST:
            raise BadRequestError(400, "a chunk's head is too long")
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise BadRequestError(400, "a chunk's head is damaged")
            self._read_line(line[:-2])
        return end

    def _read_line(self, line: bytes) -> None:
        if self._trailer:
            self.done = not line
            return
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BadRequestError(400, "a chunk's head is damaged")
        size = int(found[1], 16)
        self._trailer = not size
        self._left = size + 2 if size else 0
