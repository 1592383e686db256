from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from agent_rig import ENVIRONMENT, connect_to, read_all, udp_echo, until
from sshd import free_port

from hostvm.agent import relay as relay_module
from hostvm.agent.client import LocalStream
from hostvm.agent.forwards import Ports
from hostvm.agent.relay import relay
from hostvm.agent.rules import Rules
from hostvm.agent.service import PortForward, Traffic
from hostvm.errors import DriverError
from hostvm.platform.local import close_listener


class EchoServer:
    """In the guest: gives every byte back until end of file, then says bye."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)
            sock.sendall(b"bye")


LOW_PORT = 77
ENDLESS = 1 << 30
LISTEN = f"listen('tcp', '127.0.0.1', {LOW_PORT})"


class Plain(LocalStream):
    """A socket where relay() wants a stream of ssh's."""

    lost = False

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        super().close()


class Slirp:
    """The hypervisor's forwards, played by plain relays of this computer: same interface, a queue of one."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, int], socket.socket] = {}
        self.refuses = False

    def add(self, protocol, host_port, guest_port):
        if self.refuses:
            raise DriverError("QEMU refuses", None, "ask it")
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET, kind)
        sock.bind(("127.0.0.1", host_port))
        self.rules[protocol, host_port] = sock
        if protocol == "tcp":
            sock.listen(1)
            threading.Thread(target=self._accept, args=(sock, guest_port), daemon=True).start()
        else:
            threading.Thread(target=self._datagrams, args=(sock, guest_port), daemon=True).start()

    def remove(self, protocol, host_port):
        sock = self.rules.pop((protocol, host_port), None)
        if sock is not None:
            close_listener(sock) if protocol == "tcp" else sock.close()

    def listed(self):
        return list(self.rules)

    def _accept(self, listener, guest_port):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            guest = socket.create_connection(("127.0.0.1", guest_port), 10)
            threading.Thread(target=relay, args=(sock, Plain(guest)), daemon=True).start()

    def _datagrams(self, sock, guest_port):
        while True:
            try:
                data, address = sock.recvfrom(65535)
            except OSError:
                return
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
                guest.settimeout(5)
                guest.sendto(data, ("127.0.0.1", guest_port))
                sock.sendto(guest.recv(65535), address)


@pytest.fixture
def slirp():
    played = Slirp()
    yield played
    assert played.rules == {}


@pytest.fixture
def lines():
    return []


@pytest.fixture
def ports(sshd, slirp, lines):
    connection = connect_to(sshd)
    connection.warm_up()
    opened = Ports(connection.begin_tcp, Rules(slirp, sshd.port, lines.append), lines.append)
    yield opened
    opened.close()
    connection.close()


@pytest.fixture(params=[True, False], ids=["hypervisor", "ssh"])
def lead(request, ports):
    """`lead(guest port)` opens a port that leads there, by the way the parameter says, and gives its number."""

    def open_one(guest_port, host="127.0.0.1", protocol="tcp"):
        forward = forward_to(guest_port, host, protocol, outside=request.param)
        ports.open_port(forward)
        return forward

    return open_one


def forward_to(guest_port, host="127.0.0.1", protocol="tcp", *, outside=True, port=None):
    return PortForward(protocol, host, port or free_port(), "127.0.0.1", guest_port, outside)


def dial(forward):
    sock = socket.create_connection((forward.host, forward.port), 10)
    sock.settimeout(20)
    return sock


def test_port_both_ways_with_half_close(ports, lead):
    forward = lead(EchoServer().port)
    ports.open_port(forward)
    data = os.urandom(1 << 20)
    with dial(forward) as sock:
        threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert read_all(sock) == data + b"bye"
    assert [row["port"] for row in ports.describe()] == [forward.port]
    assert until(lambda: ports.traffic(forward).down == len(data) + 3)
    assert ports.traffic(forward) == Traffic(len(data), len(data) + 3, 1)


def test_guest_half_closes_first(ports, lead):
    """The guest says everything and ends; what the client says after that still arrives."""
    heard = []

    def serve(sock):
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    with one_server(serve) as port:
        with dial(lead(port)) as sock:
            assert read_all(sock) == b"hello"
            sock.sendall(b"and to you")
        until(lambda: heard == [b"and to you"])


def test_listener_on_ipv6(ports, lead):
    if not socket.has_ipv6:
        pytest.skip("this computer has no IPv6")
    forward = lead(EchoServer().port, host="::1")
    with dial(forward) as sock:
        sock.sendall(b"six")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"sixbye"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forward.port), 1)


def test_thousand_in_sequence_and_two_hundred_at_once(ports, lead):
    process = psutil.Process()
    forward = lead(EchoServer().port)
    with dial(forward):
        before = process.num_fds()
    for number in range(1000):
        with dial(forward) as sock:
            sock.sendall(b"%d" % number)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"%dbye" % number
    socks = [dial(forward) for _ in range(200)]
    for number, sock in enumerate(socks):
        sock.sendall(b"%d" % number)
        sock.shutdown(socket.SHUT_WR)
    for number, sock in enumerate(socks):
        assert read_all(sock) == b"%dbye" % number
        sock.close()
    assert ports.traffic(forward).connections == 1201
    until(lambda: process.num_fds() <= before)


def test_two_hundred_at_once_by_ssh_take_no_thread_each(ports):
    """One thread takes 25 KiB of the agent's memory."""
    forward = forward_to(EchoServer().port, outside=False)
    ports.open_port(forward)
    with dial(forward) as sock:
        sock.sendall(b"first")
        assert sock.recv(100) == b"first"
    before = agent_threads()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(forward)) for _ in range(200)]
        for sock in socks:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert agent_threads() == before


def agent_threads():
    """Threads of this process but those of its echo server."""
    return sum("_serve" not in thread.name for thread in threading.enumerate())


def test_slow_reader_holds_the_sender_back_and_loses_nothing(ports, lead):
    data, sent = os.urandom(1 << 20), 0
    with dial(lead(EchoServer().port)) as sock:
        # The buffers on the way take much: six of them, which Linux lets grow to 36 MB each here and there.
        while sent < ENDLESS and select.select([], [sock], [], 1)[1]:
            sent += sock.send(data[sent % len(data) :], socket.MSG_DONTWAIT)
        assert sent < ENDLESS
        sock.shutdown(socket.SHUT_WR)
        whole = data * (sent // len(data) + 1)
        assert read_all(sock) == whole[:sent] + b"bye"


def test_port_that_is_taken(ports):
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(OSError, match="another program of this computer has port") as caught:
            ports.open_port(forward_to(1, port=other.getsockname()[1]))
        assert caught.value.errno == errno.EADDRINUSE
    assert ports.describe() == []
    forward = forward_to(1)
    ports.open_port(forward)
    with pytest.raises(OSError, match="already leads"):
        ports.open_port(forward_to(2, port=forward.port))


def test_low_port_of_an_ordinary_user(ports):
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not limit.exists() or int(limit.read_text()) <= LOW_PORT:
        pytest.skip("everybody may have low ports here")
    if os.getuid() == 0:
        script = f"import os; from hostvm.agent.listeners import listen; os.setuid(65534); {LISTEN}"
        said = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, check=False).stderr
        assert b"allow them with: sudo sysctl net.ipv4.ip_unprivileged_port_start" in said
    else:
        with pytest.raises(OSError, match="allow them with: sudo sysctl"):
            ports.open_port(forward_to(1, port=LOW_PORT))


def test_address_that_is_not_here(ports):
    with pytest.raises(OSError, match=r"no address 192\.0\.2\.7"):
        ports.open_port(forward_to(1, host="192.0.2.7"))


def test_nothing_listens_behind_a_port(ports):
    forward = forward_to(free_port(), outside=False)
    ports.open_port(forward)
    with dial(forward) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_closed_port_ends_its_connections(ports, lead):
    forward = lead(EchoServer().port)
    with dial(forward) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        ports.close_port(forward)
        ports.close_port(forward)
        with pytest.raises(ConnectionRefusedError):
            dial(forward)
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"  # it may finish what it was at
        assert read_all(sock) in (b"", b"bye")  # but not go on for ever
    ports.open_port(forward)


class Losing:
    """A stream of ssh's: its connection is lost in the midst of what the guest says, when `over` is set."""

    def __init__(self) -> None:
        self.lost, self.pieces = False, [b"a part"]
        self.sent, self.ended, self.over = threading.Event(), threading.Event(), threading.Event()

    def sendall(self, data):
        self.sent.set()

    def shutdown_write(self):
        self.ended.set()

    def recv(self, size):
        if self.pieces:
            return self.pieces.pop()
        assert self.over.wait(10)
        self.lost = True
        return b""

    def close(self):
        self.lost = True  # as ssh's does
        self.over.set()


@pytest.mark.parametrize("ended", [True, False])
def test_a_client_whose_guest_is_lost_does_not_take_a_part_for_the_whole(ended, monkeypatch):
    monkeypatch.setattr(relay_module, "_LOOK", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 10)
        ours, _ = listener.accept()
    stream = Losing()
    with client:
        carrying = threading.Thread(target=relay, args=(ours, stream))
        carrying.start()
        client.sendall(b"all of it")
        if ended:
            client.shutdown(socket.SHUT_WR)
        assert client.recv(6, socket.MSG_WAITALL) == b"a part"
        assert (stream.ended if ended else stream.sent).wait(10)
        stream.over.set()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        carrying.join(10)
        assert not carrying.is_alive()


def test_reset_of_a_client_reaches_the_guest(ports, lead):
    gone = threading.Event()

    def serve(sock):
        sock.sendall(b"x")
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(100):
                pass
        gone.set()

    with one_server(serve) as port:
        sock = dial(lead(port))
        assert sock.recv(1) == b"x"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        assert gone.wait(5)


def test_hypervisor_that_refuses_is_gone_around(ports, slirp, lines):
    slirp.refuses = True
    forward = forward_to(EchoServer().port)
    ports.open_port(forward)
    with dial(forward) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    assert [line for line in lines if "no quick way" in line]


def test_rule_that_is_gone_is_gone_around_and_made_again(ports, slirp):
    echo = EchoServer()
    forward = forward_to(echo.port)
    ports.open_port(forward)
    with dial(forward) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    (key,) = slirp.rules
    slirp.remove(*key)  # as in a hypervisor that was started anew
    with dial(forward) as sock:
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"
    assert slirp.rules == {}
    with dial(forward) as sock:
        sock.sendall(b"z")
        assert sock.recv(1) == b"z"
    assert len(slirp.rules) == 1  # and from then on there is a quick way again


def test_rules_of_a_dead_agent_are_removed(ports, slirp, sshd):
    stale = free_port()
    slirp.add("tcp", stale, 1)
    forward = forward_to(EchoServer().port)
    ports.open_port(forward)
    with dial(forward) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    assert ("tcp", stale) not in slirp.rules
    ports.close_port(forward)
    until(lambda: slirp.rules == {})


def test_udp_answers_find_their_client(ports, lines):
    with udp_echo() as port:
        for host in ("127.0.0.1", "::1"):
            forward = forward_to(port, host, "udp")
            ports.open_port(forward)
            clients = [
                socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)
            ]
            for number, client in enumerate(clients):
                client.settimeout(10)
                client.sendto(b"%d" % number * 3000, (forward.host, forward.port))
            for number, client in enumerate(clients):
                assert client.recv(65535) == b"re " + b"%d" % number * 3000
                client.close()
            until(lambda forward=forward: ports.traffic(forward) == Traffic(9000, 9009, 3))
    assert lines == []


def test_udp_goes_only_where_the_hypervisor_reaches(ports):
    with pytest.raises(OSError, match="publish it without an address"):
        ports.open_port(forward_to(1, protocol="udp", outside=False))


@contextlib.contextmanager
def one_server(serve):
    """A server in the guest for one connection; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            sock, _ = server.accept()
            with sock:
                serve(sock)

        threading.Thread(target=run, daemon=True).start()
        yield server.getsockname()[1]
