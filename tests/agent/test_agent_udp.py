"""A published UDP port on real sockets; the guest is a program of this computer that answers."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys

import pytest
from agent_rig import udp_echo
from sshd import free_port

from hostvm.agent.listeners import listen
from hostvm.agent.loop import Loop
from hostvm.agent.service import PortForward
from hostvm.agent.udp_port import UdpPort
from hostvm.platform.datagrams import Datagrams

EVERYWHERE = "0.0.0.0"
told_where = pytest.mark.skipif(sys.platform == "win32", reason="Windows' sockets have no recvmsg() in Python")


class Reached:
    """The hypervisor's way into the guest, which is there already."""

    def __init__(self, port: int) -> None:
        self._port = port

    def find(self, protocol, guest_port):
        return self._port


@pytest.fixture
def guest():
    """The port of a program that gives every datagram back."""
    with udp_echo() as port:
        yield port


@pytest.fixture
def publish(guest):
    """`publish(address)` opens a port there that leads to the guest, and gives its number."""
    lines: list[str] = []
    loop = Loop("test-udp", lines.append)
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)

        def by(host):
            forward = PortForward("udp", host, free_port(), "127.0.0.1", guest)
            stack.callback(UdpPort(forward, loop, Reached(guest), lines.append).close)
            return forward.port

        yield by
    assert lines == []


def client(stack, address, port):
    """A socket that takes answers from that address alone."""
    sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(5)
    sock.connect((address, port))
    return sock


@pytest.fixture
def two_loopbacks():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError as fault:
            if fault.errno != errno.EADDRNOTAVAIL:
                raise
            pytest.skip(f"this computer's loopback has one address only: {fault}")


@told_where
def test_who_wrote_to_any_of_several_addresses_is_answered_from_it(publish, two_loopbacks):
    port = publish(EVERYWHERE)
    with contextlib.ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.1"):
            sock = client(stack, address, port)
            sock.send(address.encode())
            assert sock.recv(100) == f"re {address}".encode()


@told_where
def test_one_client_of_two_addresses_gets_each_answer_from_its_own(publish, two_loopbacks):
    port = publish(EVERYWHERE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for place in ((address, port) for address in ("127.0.0.2", "127.0.0.1", "127.0.0.2")):
            sock.sendto(place[0].encode(), place)
            assert sock.recvfrom(100) == (f"re {place[0]}".encode(), place)


@told_where
def test_a_port_on_all_ipv6_addresses_answers_from_the_one_that_was_asked(publish):
    try:
        port = publish("::")
    except OSError as fault:
        pytest.skip(f"this computer has no IPv6: {fault}")
    with contextlib.ExitStack() as stack:
        sock = client(stack, "::1", port)
        sock.send(b"six")
        assert sock.recv(100) == b"re six"
        listener = stack.enter_context(listen("udp", "::", 0))
        listener.settimeout(5)
        datagrams = Datagrams(listener)
        client(stack, "::1", listener.getsockname()[1]).send(b"where")
        data, _, here = datagrams.receive(100)
        assert (data, here[:16]) == (b"where", socket.inet_pton(socket.AF_INET6, "::1"))


@told_where
def test_an_answer_whose_address_has_gone_leaves_from_another(two_loopbacks):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen("udp", EVERYWHERE, 0))
        listener.settimeout(5)
        datagrams = Datagrams(listener)
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.settimeout(5)
        sock.sendto(b"?", ("127.0.0.2", listener.getsockname()[1]))
        _, sender, here = datagrams.receive(100)
        gone = here.replace(socket.inet_aton("127.0.0.2"), socket.inet_aton("192.0.2.9"))
        assert gone != here
        datagrams.send(b"!", sender, gone)
        assert sock.recv(100) == b"!"
