"""Uploads over real HTTP, whose connections are pairs of sockets."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
from http.server import BaseHTTPRequestHandler

import pytest
import requests
from urllib3.connection import HTTPConnection, HTTPSConnection

from images.artefact.layout import Blob
from images.errors import RegistryError
from images.patience import Patience
from images.registry.auth import Credentials
from images.registry.client import Access, Repository
from images.registry.reference import parse_reference
from images.registry.upload import Upload

DATA = bytes(range(256)) * (1 << 12)  # 1 MiB


class Site:
    """What the registry was sent, and what it answers; a test changes these."""

    def __init__(self) -> None:
        self.held = b""
        self.blocks: list[int] = []
        """Bytes of each call that gave some to the connection."""
        self.wants_login = False
        self.pieces = self.began = 0
        self.taken, self.complete = 202, 201
        """What it answers to a piece, and to the end."""
        self.takes = 1 << 30
        """Pieces of one upload; it says of others that it took them, and does not keep them."""
        self.told: list[int] = []
        """How far it says that it came after a piece, instead of how far it did."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_):
        pass

    def say(self, status, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self):
        self.say(404)

    def do_GET(self):
        self.say(200 if self.path == "/v2/" else 204, Range="0-99")

    def do_POST(self):
        self.site.held, self.site.began = b"", self.site.pieces
        self.say(202, Location="/v2/a/blobs/uploads/1")

    def do_PATCH(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if len(data) < int(self.headers["Content-Length"]):
            self.close_connection = True
            return
        if self.site.wants_login and "Authorization" not in self.headers:
            self.say(401, WWW_Authenticate="Basic realm=x")
            return
        if self.site.pieces - self.site.began < self.site.takes:
            self.site.held += data
        self.site.pieces += 1
        have = self.site.told.pop(0) if self.site.told else len(self.site.held)
        self.say(self.site.taken, Location=self.path, Range=f"0-{have - 1}")

    def do_PUT(self):
        self.say(self.site.complete)


@pytest.fixture
def site(monkeypatch) -> Site:
    site = Site()

    class Watched(socket.socket):
        def sendall(self, data, *flags):
            site.blocks.append(len(data))
            super().sendall(data, *flags)

    def connect(_connection):
        ours, theirs = socket.socketpair()
        handler = type("Handler", (Handler,), {"site": site})
        threading.Thread(target=handler, args=(theirs, ("site", 0), None), daemon=True).start()
        return Watched(fileno=ours.detach())

    def refuse(_connection):
        raise OSError("no TLS here")

    monkeypatch.setattr(HTTPConnection, "_new_conn", connect)
    monkeypatch.setattr(HTTPSConnection, "connect", refuse)
    return site


@pytest.fixture
def upload(tmp_path):
    access = Access(lambda: Credentials("anna", "secret"), patience=Patience(3, sleep=lambda _: None))
    repository = Repository(parse_reference("localhost:5000/a:1"), access, "pull,push")
    blob = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA), "x", "root.erofs")
    return Upload(repository, blob, lambda: io.BytesIO(DATA), tmp_path / "uploads", lambda _: None)


def test_a_piece_goes_in_blocks_with_a_time_limit_each(site, upload):
    """One call for all of it has one limit for all of it, which a slow line does not keep."""
    assert upload.run()
    assert site.held == DATA
    assert max(site.blocks) <= 1 << 16


def test_a_push_that_is_given_up_waits_no_longer(site, upload, monkeypatch):
    """However long the registry asks to wait."""
    slept = []

    def refuse(*_, **__):
        response = requests.Response()
        response.headers["Retry-After"] = "50"
        raise requests.ConnectionError("429 Too Many Requests", response=response)

    def advance(_):
        if slept:
            raise RegistryError("the push was given up")

    monkeypatch.setattr(upload.repository, "send", refuse)
    patience = Patience(3, sleep=slept.append)
    upload.repository.access = Access(lambda: None, patience=patience)
    upload.advance = advance
    with pytest.raises(RegistryError, match="was given up"):
        upload.run()
    assert slept == [0.5]


def test_a_piece_that_wants_a_login_is_sent_whole_after_it(site, upload):
    site.wants_login = True
    assert upload.run()
    assert site.held == DATA


def test_a_registry_that_takes_pieces_and_comes_no_further_is_given_up(site, upload):
    site.told = [100] * 20
    with pytest.raises(RegistryError, match="cannot reach the registry localhost:5000") as fault:
        upload.run()
    assert fault.value.details == "the registry took a piece, and still has 100 bytes"
    assert site.pieces == 4, "the first came further, three tries did not"


@pytest.mark.parametrize(("taken", "complete"), [(201, 201), (204, 204)])
def test_registries_say_in_several_ways_that_they_took_it(site, upload, taken, complete):
    site.taken, site.complete = taken, complete
    assert upload.run()
    assert site.held == DATA


def test_a_registry_that_keeps_one_piece_of_an_upload_gets_all_in_one(site, upload):
    """As Amazon's does, with 201 for the others too."""
    site.takes, site.taken, upload.piece = 1, 201, 300_000
    assert upload.run()
    assert site.held == DATA
    assert site.pieces == 3
    assert max(site.blocks) <= 1 << 16


def test_a_file_that_becomes_shorter_while_it_is_sent(site, upload):
    upload.open_source = lambda: io.BytesIO(DATA[:-1])
    with pytest.raises(RegistryError, match=r"root\.erofs became shorter"):
        upload.run()
