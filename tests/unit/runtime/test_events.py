"""Following an engine's events over a real socket pair: nothing is missed, and what breaks is begun anew."""

from __future__ import annotations

import json
import queue
import socket
import threading

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent.client import LocalStream
from runtime.docker import events as module
from runtime.docker.events import EventFeed


class Guest:
    """Each connection to its engine is put into `opened`, the engine's end of it."""

    def __init__(self):
        self.opened = queue.Queue()

    def open_socket(self, path):
        assert path == "/run/engine.sock"
        ours, theirs = socket.socketpair()
        self.opened.put(theirs)
        return LocalStream(ours)


class Host:
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.fixture
def guest():
    return Guest()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def heard():
    return queue.Queue()


@pytest.fixture
def feed(guest, host, heard, monkeypatch):
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    made = EventFeed("test-feed", "/run/engine.sock", {"type": ["container"]})
    made.start(guest, host, heard.put, lambda: heard.put("begun"))
    yield made
    made.stop()
    until(lambda: all(thread.name != "test-feed" for thread in threading.enumerate()))


def answered(engine):
    """The engine's end, once it was asked and has begun to answer."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += engine.recv(4096)
    assert b"/events?filters=%7B%22type%22" in asked, asked
    engine.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    return engine


def test_a_list_is_read_before_the_first_event(feed, guest, heard):
    assert feed
    with answered(guest.opened.get(timeout=10)) as engine:
        assert heard.get(timeout=10) == "begun"
        for action in ("start", "die"):
            engine.sendall(json.dumps({"Action": action}).encode() + b"\n")
            assert heard.get(timeout=10) == {"Action": action}


def test_it_begins_anew_when_the_engine_does(feed, guest, heard, host):
    assert feed
    guest.opened.get(timeout=10).close()
    answered(guest.opened.get(timeout=10)).close()
    with answered(guest.opened.get(timeout=10)):
        assert [heard.get(timeout=10) for _ in range(2)] == ["begun", "begun"]
    assert host.lines
    assert all(line.startswith("test-feed: ") for line in host.lines)


def test_an_event_that_is_none_is_told_and_followed_by_others(feed, guest, heard, host):
    assert feed
    with answered(guest.opened.get(timeout=10)) as engine:
        assert heard.get(timeout=10) == "begun"
        engine.sendall(b"no event\n")
        with answered(guest.opened.get(timeout=10)):
            assert heard.get(timeout=10) == "begun"
    assert "Expecting value" in host.lines[0]


def test_a_stop_is_no_fault(feed, guest, heard, host):
    with answered(guest.opened.get(timeout=10)):
        assert heard.get(timeout=10) == "begun"
        feed.stop()
    assert host.lines == []


@pytest.mark.parametrize("chunked", [True, False])
def test_an_event_without_end_is_given_up(feed, guest, heard, host, chunked):
    assert feed
    with guest.opened.get(timeout=10) as engine:
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if chunked else b"x" * 0x10000
        how = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
        engine.sendall(b"HTTP/1.1 200 OK\r\n" + how + b"\r\n\r\n")
        assert heard.get(timeout=10) == "begun"
        with pytest.raises(ConnectionError):
            engine.sendall(piece * 200)
        with answered(guest.opened.get(timeout=10)):
            assert heard.get(timeout=10) == "begun"
    assert host.lines == ["test-feed: an event of more than 1048576 bytes"]
