"""A published port goes on after a connection for which this computer had no descriptor or thread left."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading

import pytest

from hostvm.agent.channels import Channels
from hostvm.agent.loop import READ, WRITE
from hostvm.agent.relay import relay
from hostvm.agent.service import PortForward
from hostvm.agent.tcp_port import TcpPort

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limit to set")


class Loop:
    """Calls nobody by itself: tests do."""

    def __init__(self):
        self.watched, self.timers, self.refuses = {}, [], None

    def call(self, act):
        act()

    call_and_wait = call

    def later(self, seconds, act):
        self.timers.append(act)

    def watch(self, sock, events, act):
        if events and events == self.refuses:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.watched[sock] = events


class Rules:
    def lost(self, protocol, guest_port): ...


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def port(loop):
    def begin(host, port, changed):
        raise ConnectionRefusedError

    channels = Channels(begin, print)
    made = TcpPort(PortForward("tcp", "127.0.0.1", 0, "127.0.0.1", 80), loop, Rules(), channels, lambda: False)
    yield made
    made.close()


@pytest.fixture
def ends():
    """A client that waits for the hypervisor's rule, and what it has of the connection."""
    pair = socket.socketpair()
    pair[1].settimeout(10)
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def no_threads(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def wait_for_rule(port):
    """As a first connection does."""
    port._busy = True
    port._gate()
    assert port._loop.watched[port._listener] == 0


def assert_goes_on(port, ends):
    assert port._loop.watched[port._listener] == READ
    assert ends[1].recv(1) == b"", "the client is not left waiting"
    assert port._led == set()


def test_no_descriptor_for_the_way_through_the_hypervisor(port, ends, no_more_descriptors):
    wait_for_rule(port)
    with no_more_descriptors():
        port._with_rule(ends[0], 1234)
    assert_goes_on(port, ends)


def test_no_thread_for_the_way_through_ssh(port, ends, no_threads):
    wait_for_rule(port)
    port._with_rule(ends[0], None)
    assert_goes_on(port, ends)


def connecting(port, client, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EINPROGRESS)
    with contextlib.suppress(OSError):
        port._by_hypervisor(client, 1234)
    assert port._loop.watched[port._listener] == 0


@pytest.mark.parametrize("refuses", [None, WRITE], ids=["", "not watched either"])
def test_no_thread_when_the_hypervisor_does_not_take_it(port, loop, ends, no_threads, monkeypatch, refuses):
    loop.refuses = refuses
    connecting(port, ends[0], monkeypatch)
    [give_up] = loop.timers
    give_up()
    assert_goes_on(port, ends)


def test_a_pair_that_cannot_be_watched(port, loop, ends, monkeypatch):
    real = socket.socket.getsockopt
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: 0)
    monkeypatch.setattr("hostvm.agent.tcp_port.Pair", lambda *_, **__: os.close(-1))
    watched = []
    monkeypatch.setattr(loop, "watch", lambda sock, events, act: watched.append((sock, events, act)))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EINPROGRESS)
    port._by_hypervisor(ends[0], 1234)
    settle = next(act for _, events, act in watched if events == WRITE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        settle(WRITE)
    monkeypatch.setattr(socket.socket, "getsockopt", real)
    assert watched[-1][:2] == (port._listener, READ)


def test_a_relay_without_a_thread_closes_both_ends(ends, no_threads):
    class Stream:
        closed = False

        def close(self):
            self.closed = True

    stream = Stream()
    with pytest.raises(RuntimeError):
        relay(ends[0], stream)
    assert stream.closed
    assert ends[1].recv(1) == b""
