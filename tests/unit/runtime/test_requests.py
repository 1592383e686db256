"""The requests of one docker client, however they are cut: which are read, what passes, and what is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.agent.relay import Passage
from runtime.docker import requests as module
from runtime.docker.requests import ClientRequests, Refusal


def request(target: str, *lines: str, body: bytes = b"", method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    fields = ["Host: docker", *lines, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\r\n".join([f"{method} {target} {version}", *fields, "", ""]).encode() + body


def chunked(target: str, *chunks: bytes) -> bytes:
    head = request(target, "Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (*chunks, b""))


class Judge:
    """Reads what makes a container; `becomes` says what becomes of a body, as it is otherwise."""

    def __init__(self, **becomes):
        self.read, self.becomes = [], {name.encode(): found for name, found in becomes.items()}

    def wants(self, parts):
        return parts[-2:] == ["containers", "create"]

    def judge(self, parts, body):
        self.read.append(body)
        return self.becomes.get(body, body)


def sent(judge: Judge, *pieces: bytes) -> tuple[bytes, bytes, bool]:
    """What goes on of pieces, what comes back for them, and whether that was the last."""
    requests = ClientRequests(judge)
    passed = [requests(piece) for piece in pieces]
    return b"".join(one.on for one in passed), b"".join(one.back for one in passed), any(one.last for one in passed)


CREATE = request("/v1.45/containers/create?name=x", "Content-Type: application/json", body=b"one")
OTHERS = [
    request("/_ping", method="HEAD"),
    request("/v1.45/containers/json?all=1", method="GET"),
    request("/v1.45/containers/x/start"),
    request("/v1.45/build", body=CREATE),
    request("/v1.45/images/load", body=b"\x00\r\n\r\n" * 50),
    request("/v1.45/volumes/containers/create", method="PUT", body=b"a"),
    chunked("/v1.45/build", b"tar", CREATE, CREATE[:9]),
    chunked("/v1.45/images/load"),
    request("/v1.45/exec/0123/start", body=b'{"Detach": true, "Tty": false}'),
    chunked("/exec/0123/start", b'{"Tty":false,"Det', b'ach":true}'),
]
MAKING = {
    CREATE: b"one",
    request("/containers/create", body=b"two"): b"two",
    request("http://docker/v5.4.0/libpod/containers/create", "EXPECT: 100-continue", body=b"two"): b"two",
    chunked("/v1.45/containers/create", b"th", b"re", b"e"): b"three",
}


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    found = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in found if piece]


STREAM = st.lists(st.sampled_from([*OTHERS, *MAKING]), max_size=6)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(STREAM, CUTS)
def test_requests_pass_in_any_pieces_and_those_that_make_a_container_are_read(requests, cuts):
    judge = Judge()
    on, back, last = sent(judge, *pieces(b"".join(requests), cuts))
    assert judge.read == [MAKING[one] for one in requests if one in MAKING]
    assert on == b"".join(one.replace(b"EXPECT: 100-continue\r\n", b"") for one in requests)
    assert back in [b"HTTP/1.1 100 Continue\r\n\r\n" * times for times in range(7)]
    assert not last


@given(STREAM, CUTS)
def test_one_that_is_refused_leaves_the_others_and_is_answered_as_the_engine_would(requests, cuts):
    judge = Judge(one=Refusal({"message": 'no "one"'}))
    on, back, last = sent(judge, *pieces(b"".join(requests), cuts))
    assert on == b"".join(one.replace(b"EXPECT: 100-continue\r\n", b"") for one in requests if one != CREATE)
    answer = (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n"
        b'{"message": "no \\"one\\""}\n'
    )
    assert back.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == answer * requests.count(CREATE)
    assert not last


@pytest.mark.parametrize(
    "data", [request("/containers/create", body=b"one"), chunked("/containers/create", b"o", b"ne")]
)
def test_another_body_has_another_length(data):
    found = sent(Judge(one=b"another"), data, CREATE[:-1] + b"?")
    assert found == (request("/containers/create", body=b"another") + CREATE[:-1] + b"?", b"", False)


@pytest.mark.parametrize(
    ("lines", "version"),
    [(("Connection: Close",), "HTTP/1.1"), ((), "HTTP/1.0"), (("Connection: x, close",), "HTTP/1.1")],
)
def test_a_client_that_expects_the_end_of_its_connection_gets_it(lines, version):
    data = request("/containers/create", *lines, body=b"one", version=version)
    on, back, last = sent(Judge(one=Refusal({})), data)
    assert (on, last) == (b"", True)
    assert b"\r\nConnection: close\r\n" in back


@pytest.mark.parametrize("together", [True, False])
def test_nothing_goes_on_behind_the_last_answer(together):
    """The engine would have made it, and its answer had nowhere to go."""
    last = request("/containers/create", "Connection: close", body=b"one")
    behind = request("/v1.45/containers/x/start")
    said = [OTHERS[0], *([last + behind] if together else [last, behind]), behind]
    on, back, ended = sent(Judge(one=Refusal({})), *said)
    assert (on, back.count(b"HTTP/1.1"), ended) == (OTHERS[0], 1, True)
    assert ClientRequests(Judge())(b"") == Passage()


def test_a_client_that_waits_to_be_told_to_go_on_is_told():
    head, body = request("/containers/create", "Expect: 100-continue", "Content-Length: 3"), b"one"
    requests = ClientRequests(Judge())
    assert requests(head) == Passage(back=b"HTTP/1.1 100 Continue\r\n\r\n")
    assert requests(body) == Passage(request("/containers/create", body=b"one"))
    assert ClientRequests(Judge())(head + body) == Passage(request("/containers/create", body=b"one"))


@pytest.mark.parametrize(
    "begin",
    [
        request("/v1.45/containers/x/attach?stdin=1&stream=1", "Connection: Upgrade", "Upgrade: tcp"),
        request("/v1.45/containers/x/attach?stdin=1&stream=1"),
        request("/v1.45/containers/x/attach/ws", "Connection: Upgrade", "Upgrade: websocket", method="GET"),
        request("/v1.45/exec/0123/start", "Connection: Upgrade", "Upgrade: tcp", body=b'{"Detach":false}'),
        request("/v1.45/exec/0123/start", body=b'{"Detach":false,"DetachKeys":"x"}'),
        request("/session", "Connection: Upgrade", "Upgrade: h2c"),
        request("/containers/create", "Upgrade: h2c", body=b"two"),
    ],
)
def test_a_stream_that_carries_requests_to_another_engine_passes_as_it_comes(begin):
    requests = ClientRequests(Judge(one=Refusal({})))
    assert requests(begin) == Passage(begin)
    for piece in (b"P", b"POST /containers/create HTTP/1.1\r\n", CREATE, b"\x1b[A"):
        assert requests(piece) == Passage(piece)


ATTACH = request("/v1.45/containers/x/attach?stdin=1&stream=1", "Connection: Upgrade", "Upgrade: tcp")
EXEC = request("/v1.45/exec/0123/start", "Connection: Upgrade", "Upgrade: tcp", body=b'{"Detach":false}')
PING = request("/_ping", "Connection: Upgrade", "Upgrade: TLS/1.2", method="HEAD")
TO_TLS = request("/containers/create", "Connection: Upgrade", "Upgrade: TLS/1.2", body=b"two")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (ATTACH, b"HTTP/1.1 404 Not Found\r\n"),
        (request("/containers/x/attach"), b"HTTP/1.1 409 Conflict\r\n"),
        (EXEC, b"HTTP/1.1 404 Not Found\r\n"),
        (request("/exec/0123/start", body=b'{"Detach":false}'), b"HTTP/1.1 409 Conflict\r\n"),
        (request("/session", "Connection: Upgrade", "Upgrade: h2c"), b"HTTP/1.1 404 Not Found\r\n"),
        (PING, b"HTTP/1.1 200 OK\r\n"),
        (TO_TLS, b"HTTP/1.0 201 Created\r\n"),
    ],
)
def test_requests_are_read_again_when_no_stream_begins(asked, answer):
    """As on the connections that clients keep: docker-py's after an attach that failed, Java's that offer TLS."""
    for cut in range(1, len(answer)):
        requests = ClientRequests(Judge(one=Refusal({})))
        assert requests(asked) == Passage(asked)
        requests.hear(answer[:cut])
        requests.hear(answer[cut:])
        assert requests(CREATE).on == b""
        assert requests(OTHERS[0]) == Passage(OTHERS[0])


@pytest.mark.parametrize("asked", [ATTACH, EXEC, PING, request("/containers/x/attach", body=b"{}")])
@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
def test_a_word_of_the_engines_before_its_answer_is_none(asked, interim):
    """As to an attach with `Expect: 100-continue`: what came after a refusal was taken for the stream."""
    refused, begins = b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 101 UPGRADED\r\n"
    asked = asked.replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1)
    for cut in range(1, len(interim + interim + refused)):
        requests = ClientRequests(Judge(one=Refusal({})))
        assert requests(asked) == Passage(asked)
        answer = interim + interim + refused
        requests.hear(answer[:cut])
        requests.hear(answer[cut:])
        assert requests(CREATE).on == b""
    requests = ClientRequests(Judge(one=Refusal({})))
    requests(asked)
    requests.hear(interim + begins)
    requests.hear(refused)
    assert requests(CREATE) == Passage(CREATE)


def test_who_was_told_to_go_on_with_a_stream_is_not_told_twice():
    """The engine's own word would be taken for its answer, and what comes after a refusal for the stream."""
    asked = request("/exec/0123/start", "Expect: 100-continue", body=b'{"Tty":true}')
    requests = ClientRequests(Judge(one=Refusal({})))
    assert requests(asked[:-12]) == Passage(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    assert requests(asked[-12:]) == Passage(request("/exec/0123/start", body=b'{"Tty":true}'))
    requests.hear(b"HTTP/1.1 409 Conflict\r\n")
    assert requests(CREATE).on == b""


def test_the_rest_of_a_request_that_was_refused_early_is_no_request():
    requests = ClientRequests(Judge(one=Refusal({})))
    passed = [requests(EXEC[:-10]).on]
    requests.hear(b"HTTP/1.1 404 Not Found\r\n")
    assert [*passed, requests(EXEC[-10:] + CREATE).on] == [EXEC[:-10], EXEC[-10:]]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (ATTACH, b"HTTP/1.1 101 UPGRADED\r\n"),
        (ATTACH, b"HTTP/1.1 200 OK\r\n"),
        (EXEC, b"HTTP/1.1 200 OK\r\n"),
        (PING, b"HTTP/1.1 101 Switching Protocols\r\n"),
        (PING, b"HTTP/1.1 100 Continue\r\n"),
        (PING, b"\x15\x03\x01 404 404 404"),
    ],
)
def test_a_stream_that_begins_stays_one(asked, answer):
    requests = ClientRequests(Judge(one=Refusal({})))
    requests(asked)
    requests.hear(answer)
    requests.hear(b"HTTP/1.1 404 Not Found\r\n")
    assert requests(CREATE) == Passage(CREATE)


def test_who_takes_the_stream_for_granted_has_it():
    requests = ClientRequests(Judge(one=Refusal({})))
    assert requests(ATTACH + b"input") == Passage(ATTACH + b"input")
    requests.hear(b"HTTP/1.1 404 Not Found\r\n")
    assert requests(CREATE) == Passage(CREATE)


def test_an_upgrade_that_is_refused_here_is_none():
    asked = TO_TLS.replace(b"two", b"one")
    on, back, _ = sent(Judge(one=Refusal({})), asked, CREATE)
    assert (on, back.count(b"HTTP/1.1 400 Bad Request\r\n")) == (b"", 2)


def test_answers_to_other_requests_change_nothing():
    requests = ClientRequests(Judge(one=Refusal({})))
    for other in (OTHERS[0], ATTACH):
        requests(other)
        requests.hear(b"HTTP/1.1 101 UPGRADED\r\n")
    assert requests(CREATE) == Passage(CREATE)


@pytest.mark.parametrize(
    "data",
    [
        b"ECHO\n",
        b"hello",
        b"GET / HTTP/1.0\n\n",
        b"GET / HTTP/1.0\r\nHost: x\n\r\n",
        b"GET /containers/json\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
        b"A" * (module.HEAD_MOST + 1),
        request("/containers/create", "Content-Length: 1", "Content-Length: 2"),
        request("/build", f"Content-Length: {'9' * 5000}"),
        request("/containers/create", " folded"),
        request("/containers/create", "Transfer-Encoding: chunked") + b"zz\r\n",
        request("/build", "Transfer-Encoding: chunked") + b"-1\r\n",
    ],
)
def test_what_cannot_be_followed_passes_at_once_and_all_after_it(data):
    judge = Judge(one=Refusal({}))
    requests = ClientRequests(judge)
    assert requests(data) == Passage(data)
    assert requests(CREATE) == Passage(CREATE)
    assert judge.read == []


def test_a_body_that_is_too_long_passes_unread(monkeypatch):
    monkeypatch.setattr(module, "BODY_MOST", 100)
    monkeypatch.setattr(module, "HEAD_MOST", 100)
    long = b"x" * 101
    for data in (request("/containers/create", body=long), chunked("/containers/create", *[long] * 3)):
        judge = Judge()
        assert sent(judge, *pieces(data + CREATE, list(range(0, 1000, 50)))) == (data + CREATE, b"", False)
        assert judge.read == [b"one"]


def test_the_end_lets_go_what_was_held():
    for kept in (CREATE[:20], CREATE[:-1]):
        requests = ClientRequests(Judge())
        assert requests(kept) == Passage()
        assert requests(b"") == Passage(kept)
    assert ClientRequests(Judge())(b"") == Passage()


def test_another_one_is_told_what_goes_on():
    told = []
    requests = ClientRequests(Judge(one=Refusal({})), told.append)
    for piece in (CREATE, OTHERS[0][:10], OTHERS[0][10:], b""):
        requests(piece)
    assert told == [OTHERS[0]]


def test_a_long_upload_is_not_copied():
    requests, piece = ClientRequests(Judge()), b"x" * 1000
    requests(request("/images/load", "Content-Length: 100000"))
    assert requests(piece).on is piece


def test_a_refusal_is_json_of_one_line():
    _, back, _ = sent(Judge(one=Refusal({"message": "a\nb \u00e9"})), CREATE)
    body = back.partition(b"\r\n\r\n")[2]
    assert (json.loads(body), body.count(b"\n")) == ({"message": "a\nb \u00e9"}, 1)
