"""The requests of one docker client, followed through its connection: some are read whole before the engine gets them.

Others pass as they come. To know where the next one begins each head is read, and bodies are counted; what cannot be
followed passes unread, with all that comes after it. So does what is no HTTP any more: the streams that the engine
makes of a connection (attach, exec), in which requests to another engine may travel. Of those that are asked for, and
of upgrades to TLS that some Java clients offer with each question, the engine's answer tells whether it makes one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hostvm.agent.relay import Passage
from hostvm.http_wire import END, HEAD_MOST, BadRequestError, Body, body_size, read_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BODY_MOST = 1024 * 1024
"""Bytes of a body that is read whole; one that makes a container has a few thousand."""

# What a head that has not come whole may begin with.
_BEGINS = re.compile(rb"[A-Z]*(?: [!-~]*(?: [!-~]*\r?)?)?")
_BARE = re.compile(rb"(?<!\r)\n")
_DETACHED = re.compile(rb'"detach"\s*:\s*true', re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OF_BODIES = (b"content-length", b"transfer-encoding", b"expect")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])")
_STATUS_BYTES = 12
_CONTINUES, _SWITCHES, _FINAL, _REFUSED = 100, 101, 200, 400


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client is told in the engine's place, with status 400.

    :param facts: sent as JSON, as the engine says no; clients show the "message".
    """

    facts: Mapping[str, object]


class Judge(Protocol):
    """Knows which requests of docker clients are to be read, and what becomes of them."""

    def wants(self, parts: Sequence[str]) -> bool:
        """Whether a POST's body is to be read.

        :param parts: of its path, between the slashes.
        """
        ...

    def judge(self, parts: Sequence[str], body: bytes) -> bytes | Refusal:
        """The body that the engine gets, or what the client is told. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class _Request:
    """A head.

    :param data: as it came, with the empty line.
    :param size: bytes of the body; None: in chunks.
    :param parts: of its path; none of what is not posted.
    :param closes: the client expects the connection to end with the answer.
    """

    data: bytes
    size: int | None
    parts: list[str]
    upgrades: bool
    expects: bool
    closes: bool

    @property
    def attaches(self) -> bool:
        return self.parts[-1:] == ["attach"]

    @property
    def executes(self) -> bool:
        """A stream begins, unless the body says that nobody listens."""
        return self.parts[-3:-2] == ["exec"] and self.parts[-1] == "start"

    def is_refused(self, status: int) -> bool:
        """Whether an answer means that the connection stays what it was. Attach and exec need no 101 for a stream."""
        return status >= (_REFUSED if self.attaches or self.executes else _FINAL)

    def with_body(self, body: bytes) -> bytes:
        """The request with another body than its own, whole."""
        lines = self.data.removesuffix(END).split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in _OF_BODIES]
        return b"\r\n".join([*kept, b"Content-Length: %d" % len(body)]) + END + body


@dataclass(slots=True)
class _Out:
    """What is said both ways, in pieces, for a piece that came."""

    on: list[bytes] = field(default_factory=list)
    back: list[bytes] = field(default_factory=list)
    last: bool = False


def _ignore(data: bytes) -> None:
    del data


class ClientRequests:
    """Implements `hostvm.agent.relay.Examine` for one connection.

    :param before: told what goes on to the engine, before it does; may block.
    """

    def __init__(self, judge: Judge, before: Callable[[bytes], None] = _ignore) -> None:
        self._judge = judge
        self._before = before
        self._raw = False  # all that comes passes unread
        self._body = Body(0)  # of the request before, or of this one; done: a head comes next
        self._held = b""  # the beginning of a head, or what came of a request that is read whole
        self._read: _Request | None = None  # that request
        self._asked: _Request | None = None  # one for a stream, until the answer begins, or more than it is sent
        self._answer = b""  # to that, its beginning
        self._ended = False  # the client was told that its connection ends

    def __call__(self, data: bytes, /) -> Passage:
        """See `Examine`."""
        if self._ended:
            return Passage()
        if not data:
            data, self._held, self._raw = self._held, b"", True
        out, at = _Out(), 0
        while at < len(data) and not self._ended:
            try:
                at = self._step(data, at, out)
            except BadRequestError:
                self._raw, self._asked = True, None
                self._release(out)
        passage = Passage(b"".join(out.on), b"".join(out.back), out.last)
        if passage.on:
            self._before(passage.on)
        return passage

    def hear(self, data: bytes, /) -> None:
        """See `Examine`: requests go on where the engine makes no stream of the connection."""
        asked = self._asked
        if asked is None:
            return
        self._answer += data
        status = self._heard_status()
        if status is None:
            return
        self._answer, self._asked = b"", None
        if asked.is_refused(status):
            self._raw = False

    def _heard_status(self) -> int | None:
        """Of the engine's answer, past what it says before (100 Continue); 0: it is no HTTP; None: not there yet."""
        while len(self._answer) >= _STATUS_BYTES:
            found = _STATUS.match(self._answer)
            status = int(found[1]) if found else 0
            if not _CONTINUES <= status < _FINAL or status == _SWITCHES:
                return status
            head, end, rest = self._answer.partition(END)
            if not end:
                return None if len(head) <= HEAD_MOST else 0
            self._answer = rest
        return None

    def _step(self, data: bytes, at: int, out: _Out) -> int:
        """Deal with the beginning of `data`, from `at` on; gives where the next step begins.

        :raises BadRequestError: it cannot be followed; nothing of it was dealt with.
        """
        if self._raw:
            if self._asked is not None and self._body.feed(data, at) < len(data):
                self._asked = None  # it takes the stream for granted
            out.on.append(data[at:])
            return len(data)
        if self._read is None and self._body.done:
            return self._step_head(data, at, out)
        end = self._body.feed(data, at)
        if self._read is None:
            out.on.append(data[at:end])
            return end
        self._held += data[at:end]
        if self._body.done:
            self._settle(self._read, out)
        elif len(self._held) > BODY_MOST + HEAD_MOST:
            self._raw = self._read.executes
            self._release(out)
        return end

    def _step_head(self, data: bytes, at: int, out: _Out) -> int:
        joined = self._held + data[at:]
        end = joined.find(END) + len(END)
        if end < len(END):
            if not _may_begin(joined):
                raise BadRequestError(400, "this is no HTTP/1.1 request")
            self._held = joined
            return len(data)
        request = _read_request(joined[:end])
        at += end - len(self._held)
        self._body = Body(request.size, keep=True)
        self._held = request.data
        if self._is_wanted(request):
            self._read = request
            if request.expects and at == len(data):
                out.back.append(_CONTINUE)
        else:
            self._begin(request, raw=request.upgrades or request.attaches or request.executes)
            self._release(out)
        return at

    def _begin(self, request: _Request, *, raw: bool) -> None:
        """A request goes on; `raw`: one that asks for a stream."""
        self._raw = raw
        self._answer, self._asked = b"", request if raw else None

    def _is_wanted(self, request: _Request) -> bool:
        if request.size is not None and not 0 < request.size <= BODY_MOST:
            return False
        return (request.executes and not request.upgrades) or self._judge.wants(request.parts)

    def _settle(self, request: _Request, out: _Out) -> None:
        """A request that is read has come whole."""
        body = bytes(self._body.content)
        if request.executes:
            if request.expects:
                self._held = request.with_body(body)
            self._begin(request, raw=_DETACHED.search(body) is None)
            self._release(out)
            return
        found = self._judge.judge(request.parts, body)
        if isinstance(found, Refusal):
            self._held = b""
            out.back.append(_refused(found, request))
            out.last = self._ended = request.closes
            self._release(out)
            return
        if found != body or request.expects:  # who expected to be told "continue" was told
            self._held = request.with_body(found)
        self._begin(request, raw=request.upgrades)
        self._release(out)

    def _release(self, out: _Out) -> None:
        """What was held goes on; of the body there, what comes yet is not read."""
        out.on.append(self._held)
        self._held, self._read = b"", None
        self._body.forget()


def _may_begin(data: bytes) -> bool:
    """Whether a head may begin so. One of lines that end otherwise than they should would seem to have no end."""
    line, newline, _ = data.partition(b"\n")
    if len(data) > HEAD_MOST or _BARE.search(data) or not _BEGINS.fullmatch(line):
        return False
    return not newline or b" HTTP/1." in line


def _read_request(data: bytes) -> _Request:
    if _BARE.search(data):
        raise BadRequestError(400, "a line of the request's head is damaged")
    (method, target, version), fields = read_fields(data)
    parts = target.partition("?")[0].split("/") if method == "POST" else []
    closes = version == "HTTP/1.0" or "close" in ",".join(fields.get("connection", [])).lower()
    return _Request(data, body_size(fields), parts, "upgrade" in fields, "expect" in fields, closes)


def _refused(refusal: Refusal, request: _Request) -> bytes:
    body = json.dumps(refusal.facts).encode() + b"\n"
    lines = [b"HTTP/1.1 400 Bad Request", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    if request.closes:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + END + body
