"""A client that does not read any more: nobody but itself waits for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from hostvm.agent import protocol
from hostvm.agent.activity import Activity
from hostvm.agent.client import Agent, AgentNotReady
from hostvm.agent.config import AgentConfig
from hostvm.agent.life import Life
from hostvm.agent.parts import Parts
from hostvm.agent.server import Server
from hostvm.agent.session import Client
from hostvm.errors import HostvmError, MachineError, SshError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")

CHUNK = b"x" * 65536


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="hvc"))  # short, as a socket's path must be
    yield made
    shutil.rmtree(made)


class Talker:
    """A program that says as much as is read, until it is told to end."""

    def __init__(self):
        self.over = threading.Event()
        self.hushed = threading.Event()
        self.read = 0

    def read_stdout(self, size):
        if self.hushed.is_set():
            self.over.wait(30)
        self.read += 1
        return b"" if self.over.is_set() else CHUNK

    def read_stderr(self, size):
        self.over.wait(30)
        return b""

    def wait(self):
        return 0

    def write_stdin(self, data): ...

    def close_stdin(self): ...

    def signal(self, name):
        self.over.set()

    def close(self):
        self.over.set()


class OneConnection:
    """The life of a guest that is there."""

    def __init__(self, process):
        self.process = process

    def connection(self, timeout, *, ready=True):
        return self

    def stream(self, argv, **options):
        return self.process

    def settle(self): ...


class NoPorts:
    def describe(self):
        return []


def config_of(folder):
    return AgentConfig(
        "m", str(folder), str(folder), str(folder / "log"), 1, "key", "host", "", str(folder / "console")
    )


@pytest.fixture
def talker():
    made = Talker()
    yield made
    made.over.set()


@pytest.fixture
def server(folder, talker):
    made = Server(
        config_of(folder), OneConnection(talker), NoPorts(), print, {"name": "m"}, Parts(), Activity(), lambda: None
    )
    yield made
    made.close()


def begin(folder, **options):
    client = Agent(folder, 10)
    client.ask("exec", argv=["yes"], **{"notices": True, **options})
    client.answer()
    return client


def stuck(talker):
    """Wait until the program's output stays with the agent."""
    before = -1
    while talker.read != before:
        before = talker.read
        time.sleep(0.3)


def in_time(act, seconds=5.0):
    done = threading.Thread(target=act, daemon=True)
    done.start()
    done.join(seconds)
    return not done.is_alive()


def test_a_notice_does_not_wait_for_a_client_that_does_not_read(folder, server, talker):
    with begin(folder) as client:
        stuck(talker)
        assert in_time(lambda: [server.tell(f"news {number}") for number in range(200)])
        with begin(folder):
            assert in_time(lambda: server.tell("the last")), "the others' neither"
        talker.hushed.set()
        errors = b""
        while not errors.endswith(b"hostvm: the last\n"):
            kind, payload = client.next_frame()
            assert kind in (protocol.STDOUT, protocol.STDERR)
            assert kind == protocol.STDERR or payload == CHUNK, "no frame was torn apart"
            errors += payload if kind == protocol.STDERR else b""
        assert b"news 199\n" in errors
        assert b"news 1\n" not in errors, "what it does not read is not kept for ever"


def test_a_notice_is_told_while_the_program_is_silent(folder, server, talker):
    talker.hushed.set()
    with begin(folder) as client:
        server.tell("news of \x1b]0;a container\x07")
        assert client.next_frame() == (protocol.STDERR, b"hostvm: news of \\x1b]0;a container\\x07\n")


def test_what_holds_up_every_command_is_told_to_those_too_who_asked_for_no_notices(folder, server, talker):
    """`docker ps`, say, which starts no container. Not to hostvm's own, whose output is nobody's but its."""
    talker.hushed.set()
    with begin(folder, notices=False) as client, begin(folder, notices=False, own=True) as own:
        server.tell("a port is taken")
        server.tell("the machine stands still", everybody=True)
        assert client.next_frame() == (protocol.STDERR, b"hostvm: the machine stands still\n")
        talker.over.set()
        assert own.next_frame()[0] == protocol.EXIT


@pytest.mark.parametrize("ready", [True, False])
def test_a_program_that_does_not_start_since_the_machine_stands_still_is_told_of_as_such(folder, talker, ready):
    """Not to hostvm's own and to who wants to look into a machine that is not ready."""
    guest = OneConnection(talker)

    def stands_still(*_, **__):
        raise MachineError("machine m stands still")

    def silent(*_, **__):
        guest.connection = stands_still
        raise SshError("the guest did not start a program")

    guest.stream = silent
    made = Server(config_of(folder), guest, NoPorts(), print, {"name": "m"}, Parts(), Activity(), lambda: None)
    with contextlib.closing(made), pytest.raises(HostvmError, match="stands still" if ready else "did not start"):
        begin(folder, ready=ready)


@pytest.mark.parametrize("wanted", [True, False])
def test_why_a_program_failed_is_told_to_who_asked_for_it(folder, talker, wanted):
    talker.wait = lambda: 1
    guest = OneConnection(talker)
    parts = Parts(explain=lambda asked: "the disk is full" if asked is guest else "")
    made = Server(config_of(folder), guest, NoPorts(), print, {"name": "m"}, parts, Activity(), lambda: None)
    with contextlib.closing(made), begin(folder, explain=wanted) as client:
        talker.over.set()
        frames = []
        while not frames or frames[-1][0] != protocol.EXIT:
            frames.append(client.next_frame())
    assert ((protocol.STDERR, b"hostvm: the disk is full\n") in frames) == wanted


def test_a_notice_for_a_client_that_is_gone_is_no_matter():
    here, there = socket.socketpair()
    with here, there, protocol.reader(here) as frames:
        client = Client(here, frames)
        there.close()
        client.notify(b"one")
        client.notify(b"two")


class Slow:
    """A service that is asked for its facts at a bad moment."""

    name, early = "slow", False

    def __init__(self):
        self.asked, self.go_on = threading.Event(), threading.Event()

    def start(self, guest, host): ...

    def stop(self): ...

    def describe(self):
        self.asked.set()
        self.go_on.wait(30)
        return {"fine": True}


def test_a_service_that_takes_its_time_to_describe_itself_holds_nobody_up(folder):
    service = Slow()
    life = Life(config_of(folder), Parts(services=[service]), lambda: True, None)
    found = []
    asking = threading.Thread(target=lambda: found.append(life.describe()), daemon=True)
    asking.start()
    service.asked.wait(10)

    def use():
        with pytest.raises(AgentNotReady):
            life.connection(0.01)
        life.stop()

    assert in_time(use)
    service.go_on.set()
    asking.join(10)
    assert found[0]["services"] == {"slow": {"fine": True}}
