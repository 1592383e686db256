"""Servers that send too much, or too little, over real HTTP on pairs of sockets."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
import requests
from urllib3.connection import HTTPConnection, HTTPSConnection

from images import answers
from images.archive.fetch import Fetcher, Wanted
from images.errors import MirrorError, RegistryError
from images.patience import Patience
from images.progress import NullProgress
from images.registry.client import Access, Repository
from images.registry.reference import parse_reference

MOST_SENT = 64 << 20


class Site:
    """`answer`: what it says to a path, as bytes to send one after another; `sent`: how many were."""

    def __init__(self) -> None:
        self.answer = lambda _path: [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
        self.sent = 0

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as asked:
            while words := asked.readline().split():
                while asked.readline().strip():
                    pass
                for data in self.answer(words[1].decode()):
                    try:
                        connection.sendall(data)
                    except OSError:
                        return
                    self.sent += len(data)
                if self.sent >= MOST_SENT:
                    return


@pytest.fixture
def site(monkeypatch) -> Site:
    site = Site()

    def connect(_connection):
        ours, theirs = socket.socketpair()
        threading.Thread(target=site.serve, args=(theirs,), daemon=True).start()
        return ours

    def refuse(_connection):
        raise OSError("no TLS here")

    monkeypatch.setattr(HTTPConnection, "_new_conn", connect)
    monkeypatch.setattr(HTTPSConnection, "connect", refuse)
    return site


def endless(status, **headers):
    yield f"HTTP/1.1 {status} x\r\n".encode()
    yield "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    for _ in range(MOST_SENT >> 20):
        yield bytes(1 << 20)


def reach():
    patience = Patience(2, sleep=lambda _: None)
    return Repository(parse_reference("localhost:5000/a:1"), Access(lambda: None, patience=patience), "pull")


@pytest.mark.parametrize("path", ["/v2/", "manifests", "token"])
@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_a_registry_that_sends_without_end(site, path, status):
    usual = site.answer

    def answer(asked):
        if path in asked:
            return endless(status, Location="http://localhost:5000/elsewhere")
        if path == "token" and "manifests" in asked:
            challenge = 'Bearer realm="http://localhost:5000/token"'
            return [f"HTTP/1.1 401 x\r\nContent-Length: 0\r\nWWW-Authenticate: {challenge}\r\n\r\n".encode()]
        return usual(asked)

    site.answer = answer
    with suppress(RegistryError):  # which one is told elsewhere; that there is an end is the point
        reach().manifest()
    assert site.sent < MOST_SENT // 2


def test_of_a_mirror_s_refusal_no_more_is_read_either(site, cache):
    site.answer = lambda _path: endless(404)
    with pytest.raises(MirrorError, match="there is no http"):
        Fetcher(cache).read("http://mirror.test/InRelease", 1000)
    assert site.sent < MOST_SENT // 2


def test_an_answer_within_bounds_is_whole_and_its_connection_is_used_again(site, monkeypatch):
    said = b'{"errors": [{"code": "DENIED", "message": "not for you"}]}'
    opened, connect = [], HTTPConnection._new_conn
    monkeypatch.setattr(HTTPConnection, "_new_conn", lambda connection: opened.append(1) or connect(connection))
    site.answer = lambda _path: [b"HTTP/1.1 403 x\r\nContent-Length: %d\r\n\r\n" % len(said) + said]
    session = requests.Session()
    session.mount("http://", answers.BoundedAdapter())
    session.trust_env = False
    for stream in (True, False, True):
        with session.get("http://mirror.test/x", stream=stream) as answer:
            assert answer.json()["errors"][0]["code"] == "DENIED"
    assert len(opened) == 1


class Clock:
    """Every look at what a server sends takes 20 seconds of it."""

    def __init__(self, monkeypatch, amount) -> None:
        self.now, self.amount, self.read = 0.0, amount, answers._read
        monkeypatch.setattr(answers.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(answers, "PIECE", amount)
        monkeypatch.setattr(answers, "_read", self.look)

    def look(self, raw):
        self.now += 20
        return self.read(raw)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(fetcher, archive, monkeypatch, adapter):
    archive.write("file", bytes(1000))
    Clock(monkeypatch, 1)
    url = f"{archive.mirror}/file"
    with pytest.raises(MirrorError, match="cannot fetch") as fault:
        fetcher.fetch_all([Wanted("file", (url,), "0" * 64, 1000)], NullProgress(), "files")
    assert fault.value.details == "the server sent 4 bytes in 60 s (tried 3 times)"
    assert len(adapter.requests) == 3
    with pytest.raises(MirrorError, match="cannot fetch"):
        fetcher.read(url, 1000)


def test_a_slow_one_is_not(fetcher, archive, monkeypatch):
    archive.write("file", bytes(20_000))
    Clock(monkeypatch, 2000)
    assert len(fetcher.read(f"{archive.mirror}/file", 20_000)) == 20_000


@pytest.mark.parametrize("host", ["mirror..test", "m" * 64 + ".test"])
def test_a_host_that_no_name_can_be_is_told_as_one(host, tmp_path):
    """requests lets urllib3's own fault through, which is none of its faults."""
    once = Patience(1)
    with pytest.raises(MirrorError, match="is not an address"):
        Fetcher(tmp_path, patience=once).read(f"http://{host}/debian", 9)
    with pytest.raises(RegistryError, match="cannot reach the registry"):
        Repository(parse_reference(f"{host}/a:1"), Access(lambda: None, patience=once), "pull")
