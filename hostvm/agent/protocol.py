"""What the agent and its clients say to each other: frames of type, length and payload.

One connection is one request. The client begins with HELLO, which names the protocol's version and an operation;
control frames hold JSON, data frames bytes. Imports nothing heavy: JSON is written here in a few lines, and Python's
json module loaded only where an answer has to be read. Numbers have their highest byte first; Python's struct is not
imported for them either.

The client sends no more STDIN than it has credit for (WINDOW at first, then what CREDIT adds), so the agent never
stops reading and a signal or a new terminal size is never stuck behind input that nobody reads.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    import _socket
    import socket
    from io import BufferedReader
    from typing import Any, Protocol

    class Readable(Protocol):
        """Gives as many bytes as asked for, less only at the end."""

        def read(self, size: int, /) -> bytes:
            """Blocks until they are there."""

        def close(self) -> None:
            """Let go."""


VERSION = 2

HELLO = 1  # client: {"version", "op", ...}
OK = 2  # agent: the operation began (exec) or is done; facts
ERROR = 3  # agent: {"kinds", "brief", "details", "resolution"}
STDIN = 4  # client: bytes
STDIN_END = 5  # client: end of file
CREDIT = 6  # agent: u32, this many more bytes of STDIN may be sent
STDOUT = 7  # agent: bytes
STDERR = 8  # agent: bytes
SIGNAL = 9  # client: a name without SIG
RESIZE = 10  # client: u16 rows, u16 columns
EXIT = 11  # agent: u32 status; the last frame of an exec
PROGRESS = 12  # agent: {"text"}

WINDOW = 512 * 1024
CHUNK = 64 * 1024
MOST = 4 * 1024 * 1024
_BLOCK = 256 * 1024

_HEADER_SIZE = 5  # u8 type, u32 length
_NUMBER_SIZE = 4
_CELLS_SIZE = 2


_ESCAPES = {number: f"\\u{number:04x}" for number in range(32)} | {ord('"'): '\\"', ord("\\"): "\\\\"}
_NOTHING = b"{}"


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return kind.to_bytes(1, "big") + len(payload).to_bytes(_NUMBER_SIZE, "big") + payload


def control(kind: int, facts: dict[str, Any]) -> bytes:
    """A control frame. Lone surrogates (undecodable bytes of an argv) survive.

    :raises TypeError: facts that JSON has no word for.
    """
    return frame(kind, _json(facts).encode("utf-8", "surrogatepass"))


def _json(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(str(key))}:{_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_json, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"a control frame cannot hold {type(value).__name__}")


def number(kind: int, value: int) -> bytes:
    """A frame that holds one unsigned number (CREDIT, EXIT)."""
    return frame(kind, value.to_bytes(_NUMBER_SIZE, "big"))


def resize(rows: int, columns: int) -> bytes:
    """A RESIZE frame; sizes beyond 65535 cells are cut."""
    return frame(RESIZE, b"".join(min(cells, 0xFFFF).to_bytes(_CELLS_SIZE, "big") for cells in (rows, columns)))


def read_frame(stream: Readable) -> tuple[int, bytes] | None:
    """The next frame, or None at the end, also when the end comes inside a frame.

    :raises ProtocolError: a length nobody sends.
    :raises OSError: the connection was reset.
    """
    header = stream.read(_HEADER_SIZE)
    if len(header) < _HEADER_SIZE:
        return None
    kind, length = header[0], int.from_bytes(header[1:], "big")
    if length > MOST:
        raise ProtocolError(f"a frame of {length} bytes")
    payload = stream.read(length) if length else b""
    return None if len(payload) < length else (kind, payload)


def reader(sock: socket.socket) -> BufferedReader:
    """A buffered reader of the socket's frames."""
    stream: BufferedReader = sock.makefile("rb", buffering=_BLOCK)  # type: ignore[assignment]
    return stream


def read_ahead(sock: _socket.socket) -> Readable:
    """As `reader`, without Python's socket module where that can be; not for a socket with a time-out.

    `sock` stays the one to close.
    """
    if sys.platform == "win32":
        import socket

        assert isinstance(sock, socket.socket)
        return reader(sock)
    return open(sock.fileno(), "rb", buffering=_BLOCK, closefd=False)


def parse(payload: bytes) -> dict[str, Any]:
    """A control frame's facts.

    :raises ProtocolError: not a JSON object.
    """
    if payload == _NOTHING:
        return {}
    import json

    try:
        facts = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a control frame that is not JSON") from error
    if not isinstance(facts, dict):
        raise ProtocolError("a control frame that is not an object")
    return facts


def parse_number(payload: bytes) -> int:
    """The number in a CREDIT or EXIT frame.

    :raises ProtocolError: it is not one.
    """
    if len(payload) != _NUMBER_SIZE:
        raise ProtocolError("a number of the wrong size")
    return int.from_bytes(payload, "big")


def parse_size(payload: bytes) -> tuple[int, int]:
    """Rows and columns of a RESIZE frame.

    :raises ProtocolError: it holds something else.
    """
    if len(payload) != 2 * _CELLS_SIZE:
        raise ProtocolError("a size of the wrong size")
    return int.from_bytes(payload[:_CELLS_SIZE], "big"), int.from_bytes(payload[_CELLS_SIZE:], "big")
