"""A published UDP port, of which each client's datagrams go their own way."""

from __future__ import annotations

import errno
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

    def later(self, seconds, act): ...


class Rules:
    def find(self, protocol, guest_port):
        return 40000


class Unconnected(socket.socket):
    """A socket to the guest, which unit tests may not reach."""

    def connect(self, address): ...


class Bound:
    """A socket that has received some datagrams."""

    family = socket.AF_INET

    def __init__(self, address, senders):
        self._address, self.senders = address, list(senders)

    def getsockname(self):
        return (self._address, 53)

    def setsockopt(self, *wanted): ...

    def recvfrom(self, size):
        if not self.senders:
            raise BlockingIOError
        return b"?", (self.senders.pop(0), 5353)

    def recvmsg(self, size, space):
        data, sender = self.recvfrom(size)
        return data, [], 0, sender

    def close(self): ...


@pytest.mark.parametrize(("bound", "met"), [("0.0.0.0", ["127.0.0.1"]), ("127.0.0.1", ["127.0.0.1", "192.0.2.7"])])
def test_nobody_else_reaches_a_port_of_loopback_for_which_all_addresses_are_bound(monkeypatch, bound, met):
    """As low ports are on macOS."""
    monkeypatch.setattr(udp_port, "listen", lambda *_: Bound(bound, ["127.0.0.1", "192.0.2.7"]))
    port = UdpPort(PortForward("udp", "127.0.0.1", 53, "127.0.0.1", 53), Loop(), Rules(), print)
    found = []
    monkeypatch.setattr(port, "_meet", lambda address, *_: found.append(address[0]))
    port._receive(READ)
    assert found == met


def test_a_lack_of_descriptors_is_logged_once_a_spell(monkeypatch):
    """Not for each of the datagrams that come meanwhile, of which none keeps the others waiting."""

    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    bound, lines = Bound("127.0.0.1", []), []
    monkeypatch.setattr(udp_port, "listen", lambda *_: bound)
    port = UdpPort(PortForward("udp", "127.0.0.1", 53, "127.0.0.1", 53), Loop(), Rules(), lines.append)
    logged = []
    for number, can in enumerate((none_left, none_left, Unconnected, none_left)):
        monkeypatch.setattr(udp_port.socket, "socket", can)
        bound.senders = [f"192.0.{number}.{host}" for host in range(9)]
        port._receive(READ)
        assert bound.senders == []
        logged.append(len(lines))
    port.close()
    assert logged == [1, 1, 1, 2]
    assert "port 53/udp" in lines[0]
    assert "Too many open files" in lines[0]
