"""Following an engine's events over a real socket pair: nothing is missed, and what breaks is begun anew."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.names.route import LocalStream
from hostvm.spec import default_spec
from runtime.docker import events as module
from runtime.docker.events import EngineEvents
from runtime.engine import find_engine


class Guest:
    """Each connection to its engine is put into `opened`, the engine's end of it."""

    def __init__(self):
        self.opened = queue.Queue()
        self.path = "/run/engine.sock"

    def open_socket(self, path):
        assert path == self.path
        ours, theirs = socket.socketpair()
        self.opened.put(theirs)
        return LocalStream(ours)


class Host:
    machine = "box"

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


FILTERS = {"type": ["container"], "event": ["start", "die"]}


@pytest.fixture
def events(monkeypatch):
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    yield EngineEvents("/run/engine.sock")
    until(lambda: not {"engine-events", "test-feed"} & {thread.name for thread in threading.enumerate()})


@pytest.fixture
def feed(events, guest, host, heard):
    made = events.feed("test-feed", FILTERS)
    made.start(guest, host, heard.put, lambda: heard.put("begun"))
    yield made
    made.stop()


def answered(engine):
    """The engine's end, once it was asked and has begun to answer."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += engine.recv(4096)
    assert b"/events?filters=%7B%22type%22" in asked, asked
    engine.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    return engine


def tell(engine, action, kind="container"):
    event = {"Type": kind, "Action": action}
    engine.sendall(json.dumps(event).encode() + b"\n")
    return event


def test_a_list_is_read_before_the_first_event(feed, guest, heard):
    assert feed
    with answered(guest.opened.get(timeout=10)) as engine:
        assert heard.get(timeout=10) == "begun"
        for action in ("start", "die"):
            assert tell(engine, action) == heard.get(timeout=10)


def test_it_begins_anew_when_the_engine_does(feed, guest, heard, host):
    assert feed
    guest.opened.get(timeout=10).close()
    answered(guest.opened.get(timeout=10)).close()
    with answered(guest.opened.get(timeout=10)):
        assert [heard.get(timeout=10) for _ in range(2)] == ["begun", "begun"]
    assert host.lines
    assert all(line.startswith("events: ") for line in host.lines)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_what_does_not_answer_is_the_engine_of_the_machine(host, name):
    """Which was one without a name, with the advice to look at the default machine."""
    guest = SimpleNamespace(open_socket=Mock(side_effect=ConnectionRefusedError("refused")))
    services = [one for one in find_engine(name).services(default_spec()) if one.name in ("ports", "engine")]
    for service in services:
        service.start(guest, host)
    try:
        until(lambda: {line.split(":")[0] for line in list(host.lines)} >= {"events", "engine"})
    finally:
        for service in services:
            service.stop()
    until(lambda: "engine-events" not in {thread.name for thread in threading.enumerate()})
    for line in host.lines:
        assert line.endswith(": the engine of machine box does not answer: refused: look with: hostvm status box")


@pytest.mark.parametrize(
    ("line", "told"), [(b"no event", "Expecting value"), (b"7", "'get'"), (b"[" * 100_000, "recursion")]
)
def test_an_event_that_is_none_is_told_and_followed_by_others(feed, guest, heard, host, line, told):
    assert feed
    with answered(guest.opened.get(timeout=10)) as engine:
        assert heard.get(timeout=10) == "begun"
        engine.sendall(line + b"\n")
        with answered(guest.opened.get(timeout=10)):
            assert heard.get(timeout=10) == "begun"
    assert told in host.lines[0]


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
    assert host.lines == ["events: an event of more than 1048576 bytes"]


class Service:
    """One that hears: what it does with each word is `act`'s."""

    def __init__(self, events, guest, host, filters=FILTERS):
        self.heard = queue.Queue()
        self.act = lambda _: None
        self.feed = events.feed("test-feed", filters)
        self.begin = lambda: self.feed.start(guest, host, self.hear, lambda: self.hear("begun"))

    def hear(self, word):
        self.heard.put(word)
        self.act(word)

    def next(self):
        return self.heard.get(timeout=10)


@pytest.fixture
def services(events, guest, host):
    """Makes services that begin together, and end with the test."""
    with contextlib.ExitStack() as stack:

        def make(*filters):
            made = [Service(events, guest, host, one) for one in filters]
            for one in made:
                one.begin()
                stack.callback(one.feed.stop)
            return made

        yield make


def wanted(engine):
    """The filters that a subscription asked for, which is answered."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += engine.recv(4096)
    engine.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    path = asked.decode().split(" ")[1]
    return json.loads(parse_qs(urlsplit(path).query)["filters"][0])


IMAGES = {"type": ["image", "container"], "event": ["delete", "die"]}


def test_one_subscription_serves_all_and_each_hears_what_it_asked_for(services, guest):
    containers, images = services(FILTERS, IMAGES)
    with guest.opened.get(timeout=10) as engine:
        assert wanted(engine) == {"event": ["delete", "die", "start"], "type": ["container", "image"]}
        assert containers.next() == images.next() == "begun"
        start, died = tell(engine, "start"), tell(engine, "die")
        deleted, other = tell(engine, "delete", "image"), tell(engine, "die", "image")
        last = tell(engine, "die")
        assert [containers.next() for _ in range(3)] == [start, died, last]
        assert [images.next() for _ in range(4)] == [died, deleted, other, last]
        assert guest.opened.empty()


def test_a_slow_one_holds_nobody_up_and_misses_nothing(services, guest):
    slow, quick = services(FILTERS, FILTERS)
    released = threading.Event()
    slow.act = lambda word: word == "begun" and released.wait(10)
    with answered(guest.opened.get(timeout=10)) as engine:
        assert slow.next() == quick.next() == "begun"
        told = [tell(engine, action) for action in ("start", "die") * 50]
        assert [quick.next() for _ in told] == told
        assert slow.heard.empty()
        released.set()
        assert [slow.next() for _ in told] == told


def test_after_a_break_each_reads_anew(services, guest):
    both = services(FILTERS, IMAGES)
    for _ in range(3):
        with answered(guest.opened.get(timeout=10)) as engine:
            assert [one.next() for one in both] == ["begun", "begun"]
            died = tell(engine, "die")
            assert [one.next() for one in both] == [died, died]


def test_a_fault_of_one_is_its_own_and_it_reads_anew(services, guest, host):
    faulty, other = services(FILTERS, FILTERS)

    def fail(word):
        if word != "begun":
            raise ConnectionError("the engine is busy")

    faulty.act = fail
    with answered(guest.opened.get(timeout=10)) as engine:
        assert faulty.next() == other.next() == "begun"
        start = tell(engine, "start")
        assert [faulty.next(), faulty.next()] == [start, "begun"]
        died = tell(engine, "die")
        assert [other.next(), other.next()] == [start, died]
        assert faulty.next() == died
        assert host.lines[0] == "test-feed: the engine is busy"
        assert guest.opened.empty()


def test_one_that_comes_later_begins_at_once(services, events, guest, host):
    late = Service(events, guest, host)
    (first,) = services(FILTERS)
    with answered(guest.opened.get(timeout=10)) as engine:
        assert first.next() == "begun"
        late.begin()
        assert late.next() == "begun"
        assert tell(engine, "start") == first.next() == late.next()
        first.feed.stop()
        died = tell(engine, "die")
        assert late.next() == died
        assert first.heard.empty()
        late.feed.stop()
        assert engine.recv(1) == b"", "nobody is left"


def test_one_that_is_far_behind_reads_anew_instead(services, guest, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_MOST", 3)
    slow, quick = services(FILTERS, FILTERS)
    released = threading.Event()
    slow.act = lambda word: word == "begun" and released.wait(10)
    with answered(guest.opened.get(timeout=10)) as engine:
        assert slow.next() == quick.next() == "begun"
        for action in ("start", "start", "start", "start"):
            assert tell(engine, action) == quick.next()
        died = tell(engine, "die")
        assert quick.next() == died
        released.set()
        assert [slow.next(), slow.next()] == ["begun", died]


def test_a_new_connection_is_followed_though_the_old_one_was_not_let_go(services, events, guest, host):
    (old,) = services(FILTERS)
    with answered(guest.opened.get(timeout=10)) as engine:
        assert old.next() == "begun"
        another = Guest()
        new = Service(events, another, host)
        new.begin()
        assert engine.recv(1) == b""
        with answered(another.opened.get(timeout=10)) as restored:
            assert new.next() == "begun"
            assert tell(restored, "start") == new.next()
            assert old.heard.empty()
            new.feed.stop()
    assert host.lines == []


def test_all_services_of_an_engine_share_one_subscription(guest, host, monkeypatch):
    monkeypatch.setattr(module, "_AGAIN", 0.01)
    engine = find_engine("podman")
    services = [*engine.services(default_spec()), *engine.watchers(lambda _: None)]
    feeds = [one._feed for one in services if hasattr(one, "_feed")]
    assert len(feeds) == 4
    guest.path = engine.socket
    for feed in feeds:
        feed.start(guest, host, lambda _: None, lambda: None)
    with guest.opened.get(timeout=10) as opened:
        assert set(wanted(opened)["type"]) == {"builder", "container", "image", "service", "volume"}
        for feed in feeds:
            feed.stop()
        assert opened.recv(1) == b""
    until(lambda: "engine-events" not in {thread.name for thread in threading.enumerate()})
    assert guest.opened.empty()
