"""What an agent does for another one's client that asks for a container by its name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from hostvm.names.route import Target
from hostvm.names.service import NamesService
from hostvm.paths import NAMES_SOCK
from hostvm.platform.local import connect_local

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")


class Stream:
    lost = False

    def __init__(self):
        self.closed = threading.Event()

    def recv(self, size):
        self.closed.wait(30)
        return b""

    def sendall(self, data): ...

    def shutdown_write(self): ...

    def close(self):
        self.closed.set()


class Guest:
    """Its container takes as long to answer as the test wants."""

    def __init__(self):
        self.stream, self.asked, self.go_on = Stream(), threading.Event(), threading.Event()

    def open_tcp(self, host, port):
        self.asked.set()
        self.go_on.wait(30)
        return self.stream


class Router:
    def find(self, guest, labels):
        return Target("172.17.0.2", 80)


class Host:
    def log(self, text): ...


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvn"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


@pytest.fixture
def guest(folder):
    made = Guest()
    service = NamesService(Router(), 0, "m", folder)
    service.start(made, Host())
    yield made
    made.go_on.set()
    made.stream.close()
    service.stop()


def ask(folder):
    sock = connect_local(str(folder / NAMES_SOCK))
    sock.settimeout(10)
    sock.sendall(json.dumps({"labels": ["web"]}).encode() + b"\n")
    return sock


def test_who_asks_gets_the_container(folder, guest):
    guest.go_on.set()
    with ask(folder) as sock:
        assert json.loads(sock.makefile().readline()) == {"found": True}
        assert not guest.stream.closed.is_set()


def test_the_way_to_a_container_is_closed_when_the_asker_has_gone(folder, guest):
    with ask(folder):
        assert guest.asked.wait(10)
    guest.go_on.set()
    assert guest.stream.closed.wait(10)
