"""How much of what was sent may still be on its way; the clock is the test's own."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from hostvm.ssh import transport


@pytest.fixture
def sending(monkeypatch):
    """What sends, and its clock."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=lambda: clock.now))
    ours, theirs = socket.socketpair()
    made = transport._Packetizer(ours)
    yield made, clock
    for one in (ours, theirs):
        one.close()


def test_what_was_sent_counts_for_some_seconds_though_something_was_heard(sending):
    made, clock = sending
    made.write_all(b"x" * 1000)
    made.sent_since = 0  # as when a message comes
    clock.now += 4
    made.write_all(b"x" * 10)
    assert made.sent_lately() == 1010
    clock.now += 3
    assert made.sent_lately() == 1010
    made.write_all(b"x")
    assert (made.sent_lately(), made.sent_since) == (1011, 11)
    clock.now += 5.5
    assert made.sent_lately() == 1
    clock.now += 5.5
    assert made.sent_lately() == 0


def test_what_was_sent_before_a_long_rest_does_not_count(sending):
    made, clock = sending
    made.write_all(b"x" * 1000)
    clock.now += 60
    assert made.sent_lately() == 0
    made.write_all(b"x" * 5)
    assert made.sent_lately() == 5
