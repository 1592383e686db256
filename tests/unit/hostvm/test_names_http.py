"""Which container a request is for, and where on a kept connection another one's begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.http_wire import BadRequestError
from hostvm.names.http import RequestWatch, labels_of, parse_head
from hostvm.names.service import _WatchedSocket

WEB = "web.hostvm.localhost"


def head(*lines: str, host: str = WEB, first: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([first, *([f"Host: {host}"] if host else []), *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "host", "size", "leaves"),
    [
        (head(), WEB, 0, False),
        (head(host="WEB.hostvm.localhost.:7080"), WEB, 0, False),
        (head("Content-Length: 12", first="POST /x HTTP/1.1"), WEB, 12, False),
        (head("Content-Length: 12", "content-length: 12"), WEB, 12, False),
        (head("Transfer-Encoding: chunked"), WEB, None, False),
        (head("Upgrade: websocket", "Connection: Upgrade"), WEB, 0, True),
        (head(host="other", first=f"GET http://{WEB}:80/x HTTP/1.1"), WEB, 0, False),
        (head(host="[::1]:7080"), "[::1]:7080", 0, False),
    ],
)
def test_heads(data, host, size, leaves):
    found = parse_head(data)
    assert (found.host, found.size, found.leaves_http) == (host, size, leaves)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        head(host=""),
        head("Host: second"),
        head("Content-Length: 1", "Content-Length: 2"),
        head("Content-Length: -1"),
        head(" folded"),
        head("Name : value"),
    ],
)
def test_bad_heads(data):
    with pytest.raises(BadRequestError) as caught:
        parse_head(data)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("host", "labels"),
    [("hostvm.localhost", ()), (WEB, ("web",)), ("api.shop.hostvm.localhost", ("api", "shop"))],
)
def test_labels(host, labels):
    assert labels_of(host) == labels


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "evil.example", "nothostvm.localhost", "", "[::1]:7080"])
def test_foreign_hosts_are_misdirected(host):
    with pytest.raises(BadRequestError) as caught:
        labels_of(host)
    assert caught.value.status == 421


BODIES = [
    head(),
    head("Content-Length: 5", first="POST / HTTP/1.1") + b"hello",
    head("Transfer-Encoding: chunked", first="POST / HTTP/1.1")
    + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(st.sampled_from(BODIES), max_size=4), st.lists(st.integers(0, 10_000), max_size=8))
def test_requests_for_the_same_host_all_pass(requests, cuts):
    watch = RequestWatch(parse_head(head()))
    for piece in pieces(b"".join(requests), cuts):
        assert watch.feed(piece) == len(piece)


@given(st.lists(st.sampled_from(BODIES), max_size=3), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_request_for_another_host_does_not_pass(requests, cuts):
    watch = RequestWatch(parse_head(head()))
    allowed = b"".join(requests)
    passed = 0
    for piece in pieces(allowed + head(host="other.hostvm.localhost") + b"more", cuts):
        taken = watch.feed(piece)
        passed += taken
        if taken < len(piece):
            break
    else:
        pytest.fail("the other host's request went through")
    # A head that came in pieces was passed on in part before it could be known; it never gets its end.
    assert len(allowed) <= passed < len(allowed) + len(head(host="other.hostvm.localhost"))


def test_after_an_upgrade_anything_passes():
    watch = RequestWatch(parse_head(head("Upgrade: websocket")))
    assert watch.feed(head(host="other.hostvm.localhost")) == len(head(host="other.hostvm.localhost"))
    assert watch.feed(b"\x81\x05hello") == 7


class Sending:
    """A socket that gives these, one after another."""

    def __init__(self, *sent: bytes) -> None:
        self._sent = list(sent)

    def recv(self, size: int) -> bytes:
        return self._sent.pop(0) if self._sent else b""


def received(first: bytes, *further: bytes) -> list[bytes]:
    """What the container gets of a client that sends these."""
    watch = RequestWatch(parse_head(first[: first.index(b"\r\n\r\n") + 4]))
    watched = _WatchedSocket(Sending(*further), watch, first)
    return [watched.recv(65536) for _ in range(2 + len(further))]


@pytest.mark.parametrize("body", BODIES[1:])
@pytest.mark.parametrize("taken", [0, 3])
def test_a_body_that_comes_with_the_first_head_is_not_taken_for_the_next_ones(body, taken):
    """Whether the first segment ends with the body or within it."""
    sent = body[: len(body) - taken]
    rest = body[len(sent) :] + head()
    assert received(sent, rest, head()) == [sent, rest, head(), b""]


@pytest.mark.parametrize("body", BODIES)
def test_another_hosts_request_that_comes_with_the_first_does_not_pass(body):
    other = head(host="other.hostvm.localhost")
    assert received(body + other, head()) == [body, b"", b""]
