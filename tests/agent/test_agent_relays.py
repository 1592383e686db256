from __future__ import annotations

import os
import signal
import socket
import threading
import time

import psutil
import pytest
from agent_rig import connect_to, until
from sshd import free_port

from hostvm.agent.client import open_engine
from hostvm.agent.forwards import Ports


def open_docker_sock(agent) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(agent.run_dir / "docker.sock"))
    return sock


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def test_end_of_file_travels_while_the_answer_comes(agent):
    data = os.urandom(3 << 20)
    with open_docker_sock(agent) as sock:
        sock.sendall(b"ECHO\n" + data)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == data + b"<end>"


def test_guest_ends_first(agent):
    with open_docker_sock(agent) as sock:
        sock.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        assert read_all(sock).endswith(b"OK")


def test_open_engine(agent):
    stream = open_engine(agent.run_dir)
    stream.sendall(b"ECHO\nhello")
    stream.shutdown_write()
    answer = b""
    while more := stream.recv(100):
        answer += more
    assert answer == b"hello<end>"
    stream.close()


def test_two_hundred_at_once(agent):
    before = psutil.Process(agent.process.pid).num_fds()
    socks = [open_docker_sock(agent) for _ in range(200)]
    for number, sock in enumerate(socks):
        sock.sendall(b"ECHO\n%d" % number)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    for number, sock in enumerate(socks):
        assert read_all(sock) == b"%d<end>" % number
        sock.close()
    until(lambda: psutil.Process(agent.process.pid).num_fds() <= before)


def test_killed_client_lets_go_of_the_guest(agent, engine):
    """A client that is gone altogether, with nothing on the way, must not hold its stream."""
    child = os.fork()
    if child == 0:
        sock = open_docker_sock(agent)
        sock.sendall(b"HOLD\n")
        sock.recv(10)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert engine.released.acquire(timeout=10)


def test_nothing_leaks(agent):
    process = psutil.Process(agent.process.pid)
    before, threads = process.num_fds(), process.num_threads()
    for _ in range(20):
        with open_docker_sock(agent) as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
            read_all(sock)
        agent.status()
    agent.run("true")
    until(lambda: process.num_fds() <= before and process.num_threads() <= threads)


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


@pytest.fixture
def ports(sshd):
    connection = connect_to(sshd)
    opened = Ports(connection.open_tcp)
    yield opened
    opened.close()
    connection.close()


def test_port_both_ways_with_half_close(ports):
    echo, port = EchoServer(), free_port()
    ports.open_port("127.0.0.1", port, "127.0.0.1", echo.port)
    ports.open_port("127.0.0.1", port, "127.0.0.1", echo.port)
    data = os.urandom(1 << 20)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert read_all(sock) == data + b"bye"
    assert ports.describe() == [{"host": "127.0.0.1", "port": port, "guest_host": "127.0.0.1", "guest_port": echo.port}]


def test_port_that_is_taken(ports):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        ports.open_port("127.0.0.1", other.getsockname()[1], "127.0.0.1", 1)
    assert ports.describe() == []
    port = free_port()
    ports.open_port("127.0.0.1", port, "127.0.0.1", 1)
    with pytest.raises(OSError, match="already leads"):
        ports.open_port("127.0.0.1", port, "127.0.0.1", 2)


def test_nothing_listens_behind_a_port(ports):
    port = free_port()
    ports.open_port("127.0.0.1", port, "127.0.0.1", free_port())
    with socket.create_connection(("127.0.0.1", port), 10) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_closed_port_ends_its_connections(ports):
    echo, port = EchoServer(), free_port()
    ports.open_port("127.0.0.1", port, "127.0.0.1", echo.port)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        ports.close_port("127.0.0.1", port)
        ports.close_port("127.0.0.1", port)
        assert read_all(sock) in (b"", b"bye")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    ports.open_port("127.0.0.1", port, "127.0.0.1", echo.port)


def test_reset_of_a_client_reaches_the_guest(ports):
    gone = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = server.accept()
        with sock:
            while sock.recv(100):
                pass
            gone.set()

    threading.Thread(target=serve, daemon=True).start()
    port = free_port()
    ports.open_port("127.0.0.1", port, "127.0.0.1", server.getsockname()[1])
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.sendall(b"x")
    time.sleep(0.1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert gone.wait(5)
    server.close()
