"""Answers of an engine as they should not be: endless, cut off, refusals of any length."""

from __future__ import annotations

import itertools

import pytest

from runtime.docker import api as module
from runtime.docker.api import EngineApi, EngineApiError, read_chunks

PLAIN = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"


class Engine:
    """A stream that says what it was given, piece by piece; `said` counts the bytes."""

    def __init__(self, *pieces):
        self.pieces, self.rest, self.said = itertools.chain(*pieces), b"", 0

    def sendall(self, data): ...

    def recv(self, size):
        data = self.rest or next(self.pieces, b"")
        self.rest = data[size:]
        self.said += len(data[:size])
        return data[:size]

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def _limit(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_MOST", 1 << 20)


@pytest.mark.parametrize(
    ("head", "piece"),
    [(PLAIN, b" " * 4096), (LONG, b" " * 4096), (CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n")],
    ids=["until it closes", "of a length", "in chunks"],
)
@pytest.mark.parametrize("act", ["call", "upload"])
def test_an_answer_without_end_is_given_up(head, piece, act):
    engine = Engine([head], itertools.repeat(piece))
    api = EngineApi(lambda: engine, "box")
    with pytest.raises(EngineApiError) as caught:
        api.call("GET", "/info") if act == "call" else api.upload("GET", "/info", [b"tar"])
    assert caught.value.brief == "the engine of machine box does not come to an end with GET /info"
    assert caught.value.details == "it has sent more than 1 MiB"
    assert caught.value.resolution == "look with: hostvm status box"
    assert engine.said < 2 << 20
    assert engine.closed


def test_a_long_answer_within_the_limit_is_taken_whole():
    body = b'"' + b"x" * 1_000_000 + b'"'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert EngineApi(lambda: Engine([head, body]), "box").call("GET", "/info") == "x" * 1_000_000


CUT = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12", CHUNKED + b"9\r\n12", CHUNKED + b"2\r\n12\r\n"]


class Reset(Engine):
    """Whose connection breaks at the end of what it says."""

    def recv(self, size):
        data = super().recv(size)
        if not data:
            raise ConnectionResetError(104, "reset")
        return data


@pytest.mark.parametrize("answer", CUT)
@pytest.mark.parametrize("engine", [Engine, Reset])
@pytest.mark.parametrize("act", ["call", "upload"])
def test_an_answer_that_ends_too_early_is_cut_off_though_it_could_be_read(answer, engine, act):
    api = EngineApi(lambda: engine([answer]), "box")
    with pytest.raises(EngineApiError, match="was cut off"):
        api.call("GET", "/info") if act == "call" else api.upload("GET", "/info", [b"tar"])


def test_a_refusal_without_end_is_one_all_the_same():
    engine = Engine([b"HTTP/1.1 500 No\r\n\r\n"], itertools.repeat(b"no" * 2048))
    with pytest.raises(EngineApiError, match="refused") as caught:
        EngineApi(lambda: engine, "box").call("GET", "/info")
    assert (caught.value.status, set(caught.value.details)) == (500, {"n", "o"})
    assert engine.said < 1 << 20


@pytest.mark.parametrize("answer", CUT)
@pytest.mark.parametrize("engine", [Engine, Reset])
def test_a_body_that_ends_too_early_is_cut_off(engine, answer):
    with EngineApi(lambda: engine([answer]), "box").open("GET", "/x/archive") as response:
        pieces = read_chunks(response)
        assert next(pieces) == b"12"
        with pytest.raises(EngineApiError, match="was cut off"):
            next(pieces)


@pytest.mark.parametrize("fault", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "pipe"), OSError(5, "disk")])
def test_an_upload_whose_source_breaks_waits_for_no_answer(fault):
    """The engine waits for the rest of it, and would for ever."""

    class Waiting(Engine):
        def recv(self, size):
            raise AssertionError("nobody would answer")

    def source():
        yield b"tar"
        raise fault

    engine = Waiting()
    with pytest.raises(OSError, match=str(fault.errno)) as caught:
        EngineApi(lambda: engine, "box").upload("PUT", "/x/archive", source())
    assert caught.value is fault
    assert engine.closed


def test_an_upload_that_the_engine_does_not_want_whole_hears_why():
    class Refusing(Engine):
        def sendall(self, data):
            raise BrokenPipeError

    engine = Refusing([b"HTTP/1.1 400 No\r\nContent-Length: 15\r\n\r\n", b'{"message":"a"}'])
    with pytest.raises(EngineApiError) as caught:
        EngineApi(lambda: engine, "box").upload("PUT", "/x/archive", [b"tar"])
    assert (caught.value.status, caught.value.details) == (400, "a")
