"""Listeners outlive what passes: no descriptors, no thread for a moment; they end when they are closed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent import accept as module
from hostvm.agent.accept import serve_each
from hostvm.names.service import NamesService
from hostvm.net.dns_server import DnsServer
from hostvm.platform.local import LocalListener, connect_local
from hostvm.shares.listener import ShareListener

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hva"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(module, "NO_DESCRIPTORS_SECONDS", 0.01)
    monkeypatch.setattr("hostvm.net.dns_server.NO_DESCRIPTORS_SECONDS", 0.01)


def runs(name, before=()):
    """Besides those of other tests."""
    return name in [thread.name for thread in threading.enumerate() if thread not in before]


def greet(sock):
    sock.sendall(b"hello")
    sock.close()


@pytest.fixture
def listener(folder):
    made = LocalListener(str(folder / "s"))
    yield made
    made.close()


def said(client):
    with client:
        client.settimeout(10)
        return client.recv(10)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set")
def test_a_lack_of_descriptors_passes(listener, folder, no_more_descriptors):
    failed = threading.Event()
    accept = listener.accept

    def watched():
        try:
            return accept()
        except OSError as error:
            if error.errno == errno.EMFILE:
                failed.set()
            raise

    kept = []  # a connection that ends would give its descriptor to the next

    def greet_and_keep(sock):
        kept.append(sock)
        sock.sendall(b"hello")

    listener.accept = watched
    serve_each(listener, greet_and_keep, "test-greeter")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    with no_more_descriptors():
        for client in clients:
            client.connect(str(folder / "s"))
        assert failed.wait(10)
    assert [said(client) for client in clients] == [b"hello"] * 4
    for sock in kept:
        sock.close()
    listener.close()
    until(lambda: not runs("test-greeter"))


def test_a_lack_of_threads_costs_one_connection(listener, folder, monkeypatch):
    begin, refused = threading.Thread.start, []

    def start(self):
        if self.name == "test-greeter-connection" and not refused:
            refused.append(True)
            raise RuntimeError("can't start new thread")
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    serve_each(listener, greet, "test-greeter")
    assert said(connect_local(str(folder / "s"))) == b""
    assert said(connect_local(str(folder / "s"))) == b"hello"


def test_a_client_that_left_before_its_turn_holds_nobody_up(listener, folder, monkeypatch):
    accept, aborted = listener.accept, []

    def one_left():
        if not aborted:
            aborted.append(True)
            raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
        return accept()

    listener.accept = one_left
    monkeypatch.setattr(module, "NO_DESCRIPTORS_SECONDS", 60)
    serve_each(listener, greet, "test-greeter")
    assert said(connect_local(str(folder / "s"))) == b"hello"


class Host:
    def log(self, text): ...


@contextlib.contextmanager
def shares(folder):
    made = ShareListener(folder, print)
    yield
    made._socket.shutdown(socket.SHUT_RDWR)
    made._socket.close()


@contextlib.contextmanager
def names(folder):
    made = NamesService(None, 0, "m", folder)
    made.start(object(), Host())
    yield
    until(lambda: made.describe()["held"])
    made.stop()


@contextlib.contextmanager
def dns(folder):
    del folder
    made = DnsServer(None, print)
    yield
    made.close()


@pytest.mark.parametrize(
    ("make", "thread", "call"),
    [
        (shares, "shares", "accept"),
        (names, "names-port", "accept"),
        (names, "names-agents", "accept"),
        (dns, "dns-tcp", "accept"),
        (dns, "dns-udp", "recvfrom"),
    ],
)
def test_every_listener_goes_on_after_an_error_that_passes(make, thread, call, folder, monkeypatch):
    real, calls, before = getattr(socket.socket, call), Counter(), threading.enumerate()

    def once_refused(self, *words):
        if threading.current_thread().name != thread or threading.current_thread() in before:
            return real(self, *words)
        calls[id(self)] += 1
        if calls[id(self)] == 1:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return real(self, *words)

    monkeypatch.setattr(socket.socket, call, once_refused)
    with make(folder):
        until(lambda: calls and min(calls.values()) == 2)
        assert runs(thread, before)
    until(lambda: not runs(thread, before))


def test_a_query_that_no_thread_can_be_had_for_does_not_end_the_server(monkeypatch):
    answered = threading.Event()

    class Lookup:
        def answer(self, query, *, stream):
            if query == b"second":
                answered.set()

    begin, refused = threading.Thread.start, threading.Event()

    def start(self):
        if self.name.startswith("dns_") and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    server = DnsServer(Lookup(), print)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"first", ("127.0.0.1", server.port))
        assert refused.wait(10)
        client.sendto(b"second", ("127.0.0.1", server.port))
        assert answered.wait(10)
    server.close()
    until(lambda: not runs("dns-udp"))
