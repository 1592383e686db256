"""The sleeper: who is answered, what a client is told when the machine does not wake, and whose socket is removed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent import protocol, spawn
from hostvm.agent import sleeper as module
from hostvm.agent.accept import serve_each
from hostvm.agent.sleeper import Sleeper
from hostvm.agent.spawn import sleeper_status
from hostvm.errors import AgentError
from hostvm.platform.local import LocalListener, connect_local
from hostvm.process_id import ProcessId

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvs"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


class Engine:
    """A machine that can wake: its agent listens then and answers in capitals."""

    def __init__(self, folder):
        self.folder, self.woken, self.why, self.listener = folder, 0, "", None

    def wake(self):
        self.woken += 1
        if not self.why:
            self.listen()
        return self.why

    def listen(self):
        self.listener = LocalListener(str(self.folder / "docker.sock"))
        serve_each(self.listener, self.answer, "engine")

    def answer(self, sock):
        with sock:
            while data := sock.recv(100):
                sock.sendall(data.upper())


@pytest.fixture
def engine(folder):
    made = Engine(folder)
    yield made
    if made.listener is not None:
        made.listener.close()


@pytest.fixture
def sleeper(folder, engine, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.02)
    made = Sleeper(str(folder), engine.wake)
    runs = threading.Thread(target=made.run)
    runs.start()
    yield made, runs
    with contextlib.suppress(OSError):
        tell(folder, "shutdown")
    runs.join(10)
    assert not runs.is_alive()


def tell(folder, op):
    with connect_local(str(folder / "sleep.sock")) as sock, protocol.reader(sock) as frames:
        sock.sendall(protocol.control(protocol.HELLO, {"op": op}))
        return protocol.parse(protocol.read_frame(frames)[1])


def say(folder, data):
    with connect_local(str(folder / "docker.sock")) as sock:
        sock.settimeout(10)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        parts = []
        while more := sock.recv(65536):
            parts.append(more)
        return b"".join(parts)


def test_the_first_client_wakes_and_all_are_answered(folder, engine, sleeper):
    assert say(folder, b"hello") == b"HELLO"
    assert say(folder, b"again") == b"AGAIN"
    assert engine.woken == 1


def test_clients_that_wait_together_wake_once(folder, engine, sleeper):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(say(folder, b"x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [b"X"] * 8
    assert engine.woken == 1


def test_why_it_does_not_wake_is_told_as_the_engine_would(folder, engine, sleeper):
    engine.why = 'machine m is stopped\n  start it with: "hostvm start"'
    head, _, body = say(folder, b"GET /v1.41/images/json HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"message": engine.why}
    assert say(folder, b"HEAD /_ping HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n"), "HEAD has no body"
    assert engine.woken == 1, "the second of a client's requests is told the same"


def test_told_to_end_it_leaves_another_ones_socket_alone(folder, engine, sleeper):
    _, runs = sleeper
    assert sleeper_status(folder)["listens"] == str(folder / "docker.sock")
    engine.listen()
    assert tell(folder, "shutdown")["pid"] == os.getpid()
    runs.join(10)
    assert not runs.is_alive()
    assert not (folder / "sleep.sock").exists()
    assert say(folder, b"still there") == b"STILL THERE"
    assert sleeper_status(folder) is None


def test_one_that_a_launcher_has_begun_is_known(folder, sleeper, monkeypatch):
    """On Windows what is started in a virtual environment is a launcher, whose child the sleeper is."""
    killed = []
    monkeypatch.setattr(spawn.process_id, "is_alive", lambda _: False)  # so that nothing is waited for
    monkeypatch.setattr(spawn.process_id, "kill", killed.append)
    for pid, known in ((os.getpid(), True), (os.getppid(), True), (1 << 30, False)):
        monkeypatch.setattr(spawn.process, "spawn_detached", lambda *_, pid=pid, **__: ProcessId(pid, 0.0))
        with contextlib.nullcontext() if known else pytest.raises(AgentError):
            spawn.spawn_sleeper(folder, folder / "log")
    assert [one.pid for one in killed] == [1 << 30]


def test_it_ends_with_the_last_connection_that_it_carries(folder, engine, sleeper):
    _, runs = sleeper
    with connect_local(str(folder / "docker.sock")) as sock:
        sock.settimeout(10)
        sock.sendall(b"a")
        assert sock.recv(10) == b"A"
        tell(folder, "shutdown")
        sock.sendall(b"b")
        assert sock.recv(10) == b"B"
        assert runs.is_alive()
    runs.join(10)
    assert not runs.is_alive()


def test_a_socket_that_an_agent_took_away_with_it_is_there_again(folder, engine, sleeper):
    engine.listen()
    engine.listener.close()  # its machine did not wake
    until((folder / "docker.sock").exists)
    assert say(folder, b"hello") == b"HELLO"


def test_a_socket_that_cannot_be_had_is_had_later(folder, engine, sleeper, monkeypatch):
    refused = threading.Event()

    def refuse(path):
        refused.set()
        raise OSError(28, "No space left on device")

    with connect_local(str(folder / "docker.sock")) as sock:
        sock.settimeout(10)
        sock.sendall(b"a")
        assert sock.recv(10) == b"A"
        with monkeypatch.context() as patched:
            patched.setattr(module, "LocalListener", refuse)
            engine.listener.close()
            assert refused.wait(10)
        sock.sendall(b"b")
        assert sock.recv(10) == b"B", "who was carried is still"
    until((folder / "docker.sock").exists)
    assert say(folder, b"hello") == b"HELLO"


def test_nobody_is_left_behind_when_the_folder_is_removed(folder, engine, sleeper):
    _, runs = sleeper
    (folder / "sleep.sock").unlink()
    runs.join(10)
    assert not runs.is_alive()
