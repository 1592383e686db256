"""A connection that is made while nobody knows whether it is needed."""

from __future__ import annotations

import socket
import threading

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent.attempt import Attempt
from hostvm.errors import SshError


class Connection:
    closed = warm = False

    def warm_up(self):
        self.warm = True

    def close(self):
        self.closed = True


@pytest.fixture
def ends():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def line():
    return Connection()


def test_what_was_made_is_handed_over(ends, line):
    attempt = Attempt(ends[0], lambda sock: line if sock is ends[0] else None)
    assert attempt.connection() is line
    assert attempt.over
    assert attempt.made
    until(lambda: line.warm)


def test_one_that_is_there_and_not_needed_is_closed(ends, line):
    attempt = Attempt(ends[0], lambda _: line)
    until(lambda: attempt.over)
    attempt.close()
    assert line.closed


def test_one_that_is_not_needed_any_more_is_broken_off(ends, line):
    """Its peer says nothing, and would for a long time."""

    def log_in(sock):
        assert sock.recv(1) == b""
        return line

    attempt = Attempt(ends[0], log_in)
    attempt.close()
    until(lambda: attempt.over)
    until(lambda: line.closed)  # it came in spite of that
    assert not attempt.made
    assert not line.warm
    with pytest.raises(SshError, match="not needed"):
        attempt.connection()


def test_why_it_could_not_be_made(ends):
    def refuse(sock):
        raise SshError("refused", None, "ask why")

    attempt = Attempt(ends[0], refuse)
    with pytest.raises(SshError, match="refused"):
        attempt.connection()
    assert not attempt.made
    attempt.close()


def test_while_it_is_made_it_is_not_over(ends, line):
    go_on = threading.Event()
    attempt = Attempt(ends[0], lambda _: go_on.wait(10) and line)
    assert not attempt.over
    go_on.set()
    assert attempt.connection() is line
