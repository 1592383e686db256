"""As much of HTTP/1.1 as it takes to know which container a request is for (RFC 9112). Pure: bytes in, facts out."""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "hostvm.localhost"
"""Below `localhost`, so that clients resolve it to loopback by themselves (RFC 6761, 6.3)."""

HEAD_MOST = 64 * 1024
_END = b"\r\n\r\n"
_LINE_MOST = 4096


class BadRequestError(Exception):
    """Not a request that this proxy may pass on; `status` is what its sender is told."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """One request's head.

    :param host: whom it is for, lower case, without the port.
    :param size: bytes of its body; None: in chunks.
    :param leaves_http: an upgrade or a tunnel: what follows is not HTTP.
    """

    host: str
    size: int | None
    leaves_http: bool


def parse_head(data: bytes) -> Head:
    """Read a head, all of it up to the empty line.

    :raises BadRequestError: it is none, or says two things at once.
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
    return Head(_host(words[1], fields), _size(fields), words[0] == "CONNECT" or "upgrade" in fields)


def _host(target: str, fields: dict[str, list[str]]) -> str:
    named = fields.get("host", [])
    if len(named) != 1:
        raise BadRequestError(400, "the request names no host, or several")
    authority = named[0]
    if target.lower().startswith("http://"):
        authority = target[7:].partition("/")[0].rpartition("@")[2]
    host = authority if authority.startswith("[") else authority.partition(":")[0]
    return host.lower().rstrip(".")


def _size(fields: dict[str, list[str]]) -> int | None:
    if "transfer-encoding" in fields:
        return None
    sizes = set(fields.get("content-length", ["0"]))
    size = sizes.pop()
    if sizes or not (size.isascii() and size.isdecimal()):
        raise BadRequestError(400, "the request's length is not clear")
    return int(size)


def labels_of(host: str) -> tuple[str, ...]:
    """The labels below our domain; none for the domain itself.

    :raises BadRequestError: another host: a page elsewhere may have been made to point here (DNS rebinding).
    """
    if host == DOMAIN:
        return ()
    if not host.endswith(f".{DOMAIN}"):
        raise BadRequestError(421, f"only names below {DOMAIN} are answered here")
    return tuple(host.removesuffix(f".{DOMAIN}").split("."))


class RequestWatch:
    """Follows a client's requests on one connection, which stays with the host of the first one."""

    def __init__(self, first: Head) -> None:
        self._host = first.host
        self._buffer = b""
        self._left = 0
        self._state = "head"
        self._begin_body(first)

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` may go to the container: all, or those before a request for another host."""
        self._buffer += data
        while self._state != "raw" and self._step():
            pass
        if self._state == "raw":
            self._buffer = b""
        if self._state == "stop":
            return max(0, len(data) - len(self._buffer))
        return len(data)

    def _step(self) -> bool:
        """Take what can be understood off the buffer; False when more is needed, or nothing more is wanted."""
        if self._state == "stop":
            return False
        if self._state == "body":
            taken = min(self._left, len(self._buffer))
            self._buffer, self._left = self._buffer[taken:], self._left - taken
            if self._left:
                return False
            self._state = self._after
            return True
        if self._state in ("chunk", "trailer"):
            return self._step_chunk()
        return self._step_head()

    def _step_head(self) -> bool:
        self._buffer = self._buffer.lstrip(b"\r\n") if self._buffer[:1] in (b"\r", b"\n") else self._buffer
        end = self._buffer.find(_END)
        if end < 0:
            if len(self._buffer) > HEAD_MOST:
                self._state = "stop"
            return False
        try:
            head = parse_head(self._buffer[: end + len(_END)])
        except BadRequestError:
            head = None
        if head is None or head.host != self._host:
            self._state = "stop"
            return False
        self._buffer = self._buffer[end + len(_END) :]
        self._begin_body(head)
        return True

    def _step_chunk(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _LINE_MOST:
                self._state = "stop"
            return False
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        if self._state == "trailer":
            self._state = "trailer" if line else "head"
            return True
        try:
            size = int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            self._state = "stop"
            return False
        self._left, self._after, self._state = size + 2, "chunk", "body"  # each chunk ends with a line end
        if not size:
            self._state = "trailer"
        return True

    def _begin_body(self, head: Head) -> None:
        self._left, self._after = head.size or 0, "head"
        self._state = "raw" if head.leaves_http else "chunk" if head.size is None else "body"
