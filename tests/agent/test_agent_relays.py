from __future__ import annotations

import os
import signal
import socket

import psutil
from agent_rig import read_all, until

from hostvm.agent.client import open_engine


def open_docker_sock(agent) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(agent.run_dir / "docker.sock"))
    return sock


def test_end_of_file_travels_while_the_answer_comes(agent):
    data = os.urandom(3 << 20)
    with open_docker_sock(agent) as sock:
        sock.sendall(b"ECHO\n" + data)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == data + b"<end>"


def test_what_a_client_sends_is_shown_before_the_engine_has_it(agent):
    with open_docker_sock(agent) as sock:
        sock.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        read_all(sock)
    assert (agent.run_dir / "sent").read_bytes() == b"GET /_ping HTTP/1.1\r\n\r\n"


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
