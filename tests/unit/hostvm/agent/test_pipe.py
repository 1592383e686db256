"""A program of the guest that is fed and ends by itself, which its agent tells and hangs up after."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from hostvm.agent import protocol
from hostvm.agent.accept import serve_each
from hostvm.agent.client import Agent, run_in_guest
from hostvm.agent.pipe import GuestPipe
from hostvm.errors import AgentError, MachineError
from hostvm.paths import AGENT_SOCK
from hostvm.platform.local import LocalListener

pytestmark = pytest.mark.skipif(os.name == "nt", reason="loopback, which unit tests may not use")

SAID = protocol.frame(protocol.STDERR, b"no space left\n"), protocol.number(protocol.EXIT, 2)


@pytest.fixture
def agent():
    """`agent(frames)` begins one that says that of a program, and hangs up; gives its folder, and when it has."""
    folder = Path(tempfile.mkdtemp(prefix="hv-"))  # a socket's path must be short
    listener = LocalListener(str(folder / AGENT_SOCK))
    hung_up = threading.Event()

    def begin(*frames: bytes) -> tuple[Path, threading.Event]:
        def serve(sock):
            with sock:
                protocol.read_frame(protocol.read_ahead(sock))
                sock.sendall(b"".join((protocol.control(protocol.OK, {}), *frames)))
            hung_up.set()

        serve_each(listener, serve, "stand-in")
        return folder, hung_up

    yield begin
    listener.close()
    shutil.rmtree(folder)


@pytest.fixture
def ended(agent):
    """A pipe to such a program."""

    def begin(*frames: bytes) -> GuestPipe:
        folder, hung_up = agent(*frames)
        pipe = GuestPipe(folder, ["cat"])
        assert hung_up.wait(10)
        return pipe

    return begin


def test_what_it_said_before_is_told_to_who_goes_on_writing(ended):
    with ended(*SAID) as pipe, pytest.raises(MachineError, match="the guest refuses") as caught:
        pipe.write(b"x" * 100_000)
    assert caught.value.details == "no space left"


def test_what_it_said_before_is_told_to_who_ends_what_it_reads(ended):
    with ended(*SAID) as pipe, pytest.raises(MachineError, match="the guest refuses") as caught:
        pipe.finish()
    assert caught.value.details == "no space left"


def test_an_agent_that_said_nothing_of_an_end_went_away(ended):
    with ended() as pipe, pytest.raises(AgentError, match="went away"):
        pipe.write(b"x")


def test_a_program_that_is_only_run_is_told_of_as_well(agent, monkeypatch):
    folder, hung_up = agent(*SAID)
    answer = Agent.answer

    def late(self):
        answered = answer(self)
        assert hung_up.wait(10)
        return answered

    monkeypatch.setattr(Agent, "answer", late)
    done = run_in_guest(folder, ["df"], timeout=10)
    assert (done.status, done.stderr) == (2, b"no space left\n")
