"""Whether a machine is in use: what counts, and that a machine that is left takes nothing new."""

from __future__ import annotations

import pytest

from hostvm.agent import activity as module
from hostvm.agent.activity import Activity, LeavingError


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Containers:
    name, early = "containers", False

    def __init__(self):
        self.running = False

    def start(self, guest, host): ...

    def stop(self): ...

    def describe(self):
        return {}

    def in_use(self):
        return self.running


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_command_and_the_time_after_it(clock):
    activity = Activity()
    with activity.use():
        clock.now += 60
        assert activity.idle() == 0
        assert not activity.leave(1)
        with activity.use():
            pass
        assert not activity.leave(0.5)
    clock.now += 4
    assert activity.idle() == 4
    assert not activity.leave(5)
    clock.now += 1
    assert activity.leave(5)


def test_what_only_a_service_knows_of_counts(clock):
    containers = Containers()
    activity = Activity([containers])
    clock.now += 60
    containers.running = True
    assert activity.idle() == 0
    containers.running = False
    clock.now += 3
    assert activity.idle() == 3
    assert activity.leave(3)


def test_nothing_begins_once_it_leaves(clock):
    activity = Activity()
    clock.now += 10
    assert not activity.leaving
    assert activity.leave(10)
    assert activity.leaving
    with pytest.raises(LeavingError), activity.use():
        pass
    assert activity.leave(1000), "and it does not come back"
