"""Sockets that sshd listens on for us: connections from the guest's side come here."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from agent_rig import until

from hostvm.net.auth_agent import AuthAgentService


@pytest.fixture
def place(sshd, request):
    path = sshd.home / f"{request.node.name[:20]}.sock"
    yield path
    path.unlink(missing_ok=True)


def connect(path) -> socket.socket:
    until(path.exists)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def echo(stream) -> None:
    while data := stream.recv(65536):
        stream.sendall(data)
    stream.close()


def test_a_connection_from_the_guest_is_served(guest, place):
    guest.accept_socket(str(place), echo)
    data = os.urandom(3 << 20)
    with connect(place) as client:
        threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)), daemon=True).start()
        found = b""
        while more := client.recv(1 << 20):
            found += more
    assert found == data


def test_many_connections_leave_nothing_behind(guest, place):
    guest.accept_socket(str(place), echo)
    clients = [connect(place) for _ in range(50)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    assert [client.recv(10) for client in clients] == [b"%d" % number for number in range(50)]
    for client in clients:
        client.close()
    until(lambda: not any(thread.name == "from-guest" for thread in threading.enumerate()))
    assert guest.run(["true"]).status == 0
    until(lambda: len(guest._transport._open) <= 1)  # one is kept in stock for the next command


class Log:
    def __init__(self):
        self.lines = []

    def log(self, text):
        self.lines.append(text)


class Agent:
    """Stands for an ssh agent: says its name to whoever connects."""

    def __init__(self, path, name: bytes):
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.name = name
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                sock.sendall(self.name)


@pytest.mark.skipif(os.getuid() != 0, reason="the guest's socket lies in a folder of root")
def test_the_ssh_agents_socket_follows_the_user(guest, folder, place, monkeypatch):
    monkeypatch.setattr("hostvm.net.auth_agent.GUEST_AUTH_SOCK", str(place))
    first, second = Agent(folder / "a", b"first"), Agent(folder / "b", b"second")
    service, log = AuthAgentService(""), Log()
    service.start(guest, log)
    assert service.describe()["guest"] is None, "no agent, no socket"
    service.use(str(folder / "none"))
    service.use("/etc/hostname")
    assert service.describe()["host"] == "", "what is no socket is not believed"
    for agent in (first, second):
        service.use(agent.path)
        until(lambda: service.describe()["guest"])
        with connect(place) as client:
            assert client.recv(10) == agent.name
    second.listener.shutdown(socket.SHUT_RDWR)
    second.listener.close()
    with connect(place) as client:
        assert client.recv(10) == b"", "an agent that is gone hangs up"
    assert log.lines == []
