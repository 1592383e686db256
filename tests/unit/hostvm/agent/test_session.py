"""A program for a client: however it ends, the client is told."""

from __future__ import annotations

import socket
import threading

import pytest

from hostvm.agent import protocol
from hostvm.agent.session import Client, ExecSession
from hostvm.errors import SshError


class Program:
    """One that has ended with status 3; tests harm it."""

    def read_stdout(self, size):
        return b""

    def read_stderr(self, size):
        return b""

    def wait(self):
        return 3

    def write_stdin(self, data): ...

    def close_stdin(self): ...

    def signal(self, name): ...

    def close(self): ...


@pytest.fixture
def serve():
    """Runs a session for a program; gives the frames that its client gets."""
    ends = socket.socketpair()
    here, there = ends
    there.settimeout(10)

    def run(program, settle=lambda: None, explain=str, has_pty=False):
        with protocol.reader(here) as frames:
            session = ExecSession(Client(here, frames), program, settle, explain, has_pty=has_pty)
            running = threading.Thread(target=session.run, daemon=True)
            running.start()
            found = []
            try:
                with protocol.reader(there) as answers:
                    while not found or found[-1][0] not in (protocol.EXIT, protocol.ERROR):
                        found.append(protocol.read_frame(answers))
            finally:
                there.shutdown(socket.SHUT_RDWR)
                running.join(10)
        return found

    yield run
    for end in ends:
        end.close()


def raises(error):
    def act(*words):
        raise error

    return act


def test_the_status_is_told(serve):
    assert serve(Program()) == [(protocol.EXIT, b"\0\0\0\3")]


@pytest.mark.parametrize("part", ["read_stdout", "wait"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SshError("the connection to the guest was lost", None, None), "the connection to the guest was lost"),
        (ConnectionError("the ssh connection was lost"), "the agent failed"),
        (RuntimeError("can't start new thread"), "the agent failed"),
    ],
)
def test_what_goes_wrong_is_told(serve, part, error, told):
    program = Program()
    setattr(program, part, raises(error))
    [(kind, payload)] = serve(program)
    assert kind == protocol.ERROR
    assert protocol.parse(payload)["brief"] == told


def test_ports_that_cannot_be_waited_for_do_not_cost_the_status(serve):
    assert serve(Program(), raises(ValueError("not JSON"))) == [(protocol.EXIT, b"\0\0\0\3")]


@pytest.mark.parametrize(("has_pty", "end"), [(False, b"\n"), (True, b"\r\n")])
def test_why_it_failed_is_told_before_the_status(serve, has_pty, end):
    told = serve(Program(), explain=lambda: "the disk\x1b is full", has_pty=has_pty)
    assert told == [(protocol.STDERR, b"hostvm: the disk\\x1b is full" + end), (protocol.EXIT, b"\0\0\0\3")]


def test_a_program_that_succeeded_needs_no_explanation(serve):
    program = Program()
    program.wait = lambda: 0
    assert serve(program, explain=lambda: "asked") == [(protocol.EXIT, b"\0\0\0\0")]


def test_an_explanation_that_cannot_be_had_does_not_cost_the_status(serve):
    gone = raises(SshError("the connection to the guest was lost", None, None))
    assert serve(Program(), explain=gone) == [(protocol.EXIT, b"\0\0\0\3")]
