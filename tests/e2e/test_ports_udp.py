"""Published UDP, from this computer's side, with a real engine and a real hypervisor."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from machines import eventually
from port_checks import ECHO, SECONDS, ask_udp, free_ports, own_address, row

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


class Published:
    """A container with every form of `-p` for UDP, and where each is to be found."""

    def __init__(self, machine, name):
        self.plain, self.first, self.loopback, self.everywhere, self.six, self.all_six = free_ports(6, run_of=3)
        self.address = own_address()
        ports = [
            f"{self.plain}:7000",
            f"{self.first}-{self.first + 2}:7001-7003",
            f"127.0.0.1:{self.loopback}:7000",
            f"0.0.0.0:{self.everywhere}:7000",
            f"[::1]:{self.six}:7000",
            f"[::]:{self.all_six}:7000",
            *([f"{self.address}:{self.loopback + 1}:7000"] if self.address else []),
        ]
        listens = [f"0.0.0.0:{port}" for port in range(7000, 7004)]
        words = [word for port in ports for word in ("-p", f"{port}/udp")]
        machine.docker("run", "-d", "--name", name, *words, "debian:trixie", "perl", "-e", ECHO, *listens)
        eventually(lambda: "listening" in machine.docker("logs", name), "the container listens")


@pytest.fixture(scope="module")
def published(machine):
    name = f"published-udp-{os.getpid()}"
    yield Published(machine, name)
    machine.docker("rm", "-f", name)


def test_udp_each_client_gets_its_own_answers(machine, published):
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
        for number, client in enumerate(clients):
            client.settimeout(SECONDS)
            client.sendto(b"%d" % number * 1000, (host, published.plain))
        for number, client in enumerate(clients):
            data, source = client.recvfrom(65535)
            assert data == b"re " + b"%d" % number * 1000
            assert source[:2] == (host, published.plain)
            client.close()
    carried = row(machine, published.plain, "udp")
    assert (carried["sent"], carried["received"], carried["connections"]) == (3000, 3009, 3)


def test_udp_range(machine, published):
    for number in range(3):
        port = published.first + number
        for host in ("127.0.0.1", "::1"):
            assert ask_udp(port, host, b"%d" % number) == b"re %d" % number
            assert row(machine, port, "udp", host)["state"] == "open"


def test_udp_on_one_address_only(machine, published):
    """Through the guest's kernel: nothing in the guest but the container's own address takes it."""
    for port, host in ((published.loopback, "127.0.0.1"), (published.six, "::1"), (published.all_six, "::1")):
        assert ask_udp(port, host) == b"re hello"
    with pytest.raises(ConnectionRefusedError):
        ask_udp(published.loopback, "::1")
    with pytest.raises(ConnectionRefusedError):
        ask_udp(published.six)
    if published.address is not None:
        assert ask_udp(published.everywhere, published.address) == b"re hello"
        assert ask_udp(published.loopback + 1, published.address) == b"re hello"
        with pytest.raises(ConnectionRefusedError):
            ask_udp(published.loopback + 1)
        with pytest.raises(ConnectionRefusedError):
            ask_udp(published.loopback, published.address)
    (inside,) = {
        one["guest"] for one in (row(machine, published.loopback, "udp"), row(machine, published.six, "udp", "::1"))
    }
    assert inside.endswith(":7000")


def low_enough(count):
    """Free ports below those that a UDP client gets by itself: of `--network host` no others are taken for servers'."""
    found = []
    for port in range(20000 + os.getpid() % 10000, 32768):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            break
    return found


def test_udp_listeners_of_the_hosts_network(box, unique):
    """On the guest's loopback alone it is nobody's but the guest's."""
    name = unique("shares")
    port, hidden = low_enough(2)
    listens = (f"0.0.0.0:{port}", f"127.0.0.1:{hidden}")
    box.docker("run", "-d", "--name", name, "--network", "host", "debian:trixie", "perl", "-e", ECHO, *listens)
    eventually(lambda: row(box, port, "udp"), "it is listed")
    assert row(box, port, "udp")["container"] == name
    assert ask_udp(port) == b"re hello"
    eventually(lambda: row(box, hidden), "what its TCP has is found")
    assert row(box, hidden, "udp") is None
    with pytest.raises(ConnectionRefusedError):
        ask_udp(hidden)
    box.docker("rm", "-f", name)
    eventually(lambda: row(box, port, "udp") is None, "it is closed")
    with pytest.raises(ConnectionRefusedError):
        ask_udp(port)


@pytest.mark.slow
def test_machine_yaml_exposes_udp_too(exposed):
    """Nothing in busybox serves UDP: the machine needs another image, which takes a while."""
    address = own_address()
    if address is None:
        pytest.skip("this computer has loopback addresses only")
    exposed.hostvm("image", "base", "debian:trixie")
    port, hidden = free_ports(2)
    words = ("-p", f"{port}:7000/udp", "-p", f"127.0.0.1:{hidden}:7000/udp")
    exposed.docker("run", "-d", "--name", "seen", *words, "debian:trixie", "perl", "-e", ECHO, "0.0.0.0:7000")
    eventually(lambda: "listening" in exposed.docker("logs", "seen"), "the container listens")
    for host in ("127.0.0.1", "::1", address):
        assert ask_udp(port, host) == b"re hello"
    assert ask_udp(hidden) == b"re hello"
    with pytest.raises(ConnectionRefusedError):
        ask_udp(hidden, address)
