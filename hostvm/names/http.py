"""As much of HTTP/1.1 as it takes to know which container a request is for (RFC 9112). Pure: bytes in, facts out."""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.http_wire import END, HEAD_MOST, BadRequestError, Body, body_size, read_fields

DOMAIN = "hostvm.localhost"
"""Below `localhost`, so that clients resolve it to loopback by themselves (RFC 6761, 6.3)."""


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
    words, fields = read_fields(data)
    return Head(_host(words[1], fields), body_size(fields), words[0] == "CONNECT" or "upgrade" in fields)


def _host(target: str, fields: dict[str, list[str]]) -> str:
    named = fields.get("host", [])
    if len(named) != 1:
        raise BadRequestError(400, "the request names no host, or several")
    authority = named[0]
    if target.lower().startswith("http://"):
        authority = target[7:].partition("/")[0].rpartition("@")[2]
    host = authority if authority.startswith("[") else authority.partition(":")[0]
    return host.lower().rstrip(".")


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
        self._head = b""
        self._raw = self._stopped = False
        self._body = Body(0)
        self._begin_body(first)

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` may go to the container: all, or those before a request for another host."""
        at = 0
        while at < len(data) and not self._raw and not self._stopped:
            try:
                at = self._step_head(data, at) if self._body.done else self._body.feed(data, at)
            except BadRequestError:
                self._stopped = True
        return at if self._stopped else len(data)

    def _step_head(self, data: bytes, at: int) -> int:
        """Take what belongs to the next head of `data`, from `at` on; gives where that ends.

        :raises BadRequestError: it is none, or is for another host.
        """
        if not self._head and data[at : at + 1] in (b"\r", b"\n"):
            return at + 1
        before = len(self._head)
        self._head += data[at:]
        end = self._head.find(END) + len(END)
        if end < len(END):
            if len(self._head) > HEAD_MOST:
                raise BadRequestError(400, "the request's head is too long")
            return len(data)
        head = parse_head(self._head[:end])
        if head.host != self._host:
            raise BadRequestError(421, "a request for another host")
        self._head = b""
        self._begin_body(head)
        return at + end - before

    def _begin_body(self, head: Head) -> None:
        self._raw = head.leaves_http
        self._body = Body(head.size)
