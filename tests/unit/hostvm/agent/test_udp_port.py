"""A published UDP port, of which each client's datagrams go their own way."""

from __future__ import annotations

import socket

import pytest

from hostvm.agent import udp_port
from hostvm.agent.loop import READ
from hostvm.agent.service import PortForward
from hostvm.agent.udp_port import UdpPort


class Loop:
    def call(self, act):
        act()

    call_and_wait = call

    def watch(self, sock, events, act): ...


class Rules:
    def find(self, protocol, guest_port):
        return 40000


class Bound:
    """A socket that has received some datagrams."""

    family = socket.AF_INET

    def __init__(self, address, senders):
        self._address, self._senders = address, list(senders)

    def getsockname(self):
        return (self._address, 53)

    def setsockopt(self, *wanted): ...

    def recvfrom(self, size):
        if not self._senders:
            raise BlockingIOError
        return b"?", (self._senders.pop(0), 5353)

    def recvmsg(self, size, space):
        data, sender = self.recvfrom(size)
        return data, [], 0, sender

    def close(self): ...


@pytest.mark.parametrize(("bound", "met"), [("0.0.0.0", ["127.0.0.1"]), ("127.0.0.1", ["127.0.0.1", "192.0.2.7"])])
def test_nobody_else_reaches_a_port_of_loopback_for_which_all_addresses_are_bound(monkeypatch, bound, met):
    """As low ports are on macOS."""
    monkeypatch.setattr(udp_port, "listen", lambda *_: Bound(bound, ["127.0.0.1", "192.0.2.7"]))
    port = UdpPort(PortForward("udp", "127.0.0.1", 53, "127.0.0.1", 53), Loop(), Rules())
    found = []
    monkeypatch.setattr(port, "_meet", lambda address, *_: found.append(address[0]))
    port._receive(READ)
    assert found == met
