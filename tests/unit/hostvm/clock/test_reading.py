"""Reading and setting a clock, against a guest of arithmetic: no process, no waiting."""

from __future__ import annotations

import queue
import threading
from itertools import pairwise

import pytest

from hostvm.clock import reading, service
from hostvm.clock.reading import TOLERANCE, Correction, GuestClock, Reading, best, sample
from hostvm.errors import SshError


class World:
    """This computer's time, which passes only when something takes time."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def time(self):
        return self.now


class Program:
    """What the guest's bash does; every answer takes `way` there and back, every setting `lag` besides.

    :param gaps: seconds that the guest stood still between `date`'s look at the clock and its setting it, each time.
    """

    def __init__(self, world, off, way=0.004, lag=0.03, gaps=()):
        self.world, self.off, self.way, self.lag = world, off, way, lag
        self.gaps = list(gaps)
        self.said = b""
        self.shifts = []
        self.closed = False

    def write_stdin(self, data):
        word, _, value = data.decode().strip().partition(" ")
        self.world.now += self.way / 2
        if word == "shift":
            self.world.now += self.lag
            there = self.world.now + self.off + int(value) / 1e6
            self.world.now += self.gaps.pop(0) if self.gaps else 0.0
            self.off = there - self.world.now
            self.shifts.append(int(value))
        self.said += f"{self.world.now + self.off:.6f}\n".encode()
        self.world.now += self.way / 2

    def read_stdout(self, size):
        said, self.said = self.said[:3], self.said[3:]
        return said

    def read_stderr(self, size):
        return b"date: cannot set date"

    def close_stdin(self):
        self.closed = True

    def close(self):
        self.closed = True


class Guest:
    def __init__(self, program):
        self.program = program

    def stream(self, argv, **_):
        assert argv[0] == "/bin/bash"
        return self.program


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(reading, "sample", lambda ask: sample(ask, made.time))
    return made


@pytest.mark.parametrize("off", [-3600.0, -0.5, 0.021, 7.25, 86400.0])
def test_a_clock_that_is_off_is_set_at_once(world, off):
    program = Program(world, off)
    done = GuestClock(Guest(program)).correct()
    assert done.before == pytest.approx(off, abs=0.001)
    assert abs(done.after) < TOLERANCE
    assert abs(program.off) < 0.001
    assert done.times_set == 1
    assert done.within == pytest.approx(0.002)
    assert done.settled


def test_a_setting_that_came_late_once_does_not_set_the_clock_ahead_the_next_time(world):
    program = Program(world, -100.0, gaps=[0.9])
    done = GuestClock(Guest(program)).correct()
    assert abs(program.off) < 0.001
    assert done.times_set == 2


@pytest.mark.parametrize(("off", "way"), [(0.5, 2.0), (-3.0, 6.0), (0.03, 0.04), (4.0, 4.1)])
def test_a_clock_that_is_not_known_better_than_it_is_wrong_is_left_alone(world, off, way):
    program = Program(world, off, way=way)
    done = GuestClock(Guest(program)).correct()
    assert (done.times_set, program.shifts, program.off) == (0, [], off)
    assert not done.settled


def test_one_that_is_hours_off_is_set_though_its_guest_is_slow_to_answer(world):
    program = Program(world, -7200.0, way=6.0)
    done = GuestClock(Guest(program)).correct()
    assert done.times_set == 1
    assert abs(program.off) <= 3.0


def test_a_clock_that_is_right_is_left_alone(world):
    program = Program(world, 0.015)
    done = GuestClock(Guest(program)).correct()
    assert (done.times_set, program.shifts) == (0, [])


def test_a_guest_whose_clock_cannot_be_set_is_told(world):
    program = Program(world, 5.0)
    program.write_stdin = lambda _: None
    with pytest.raises(SshError) as caught:
        GuestClock(Guest(program)).correct()
    assert caught.value.details == "date: cannot set date"


def test_the_reading_with_the_shortest_way_counts():
    assert best([Reading(1.0, 0.5), Reading(0.2, 0.001), Reading(0.4, 0.01)]) == Reading(0.2, 0.001)


@pytest.fixture
def wall(monkeypatch):
    """This computer's time of day and its count of seconds."""
    made = {"now": 1000.0, "mono": 0.0}
    monkeypatch.setattr(service.time, "time", lambda: made["now"])
    monkeypatch.setattr(service.time, "monotonic", lambda: made["mono"])
    return made


class Look:
    """Lets a second pass for each wait, and besides what is on the list: on the clock, and in the count of seconds."""

    def __init__(self, wall, *besides):
        self.wall, self.besides = wall, list(besides)

    def wait(self, seconds):
        clock, count = self.besides.pop(0) if self.besides else (0.0, 0.0)
        self.wall["mono"] += seconds + count
        self.wall["now"] += seconds + clock
        return False

    def clear(self):
        pass


def test_a_jump_of_this_computers_clock_ends_the_waiting_and_nothing_else_does(wall):
    for jumps, waited in (((0.0, 0.0, 3600.0), 3.0), ((0.0, -7200.0), 2.0), ((0.0, -86400.0), 2.0)):
        began = wall["mono"]
        service.wait_for_jump(Look(wall, *((jump, 0.0) for jump in jumps)))
        assert wall["mono"] - began == waited
    began = wall["mono"]
    service.wait_for_jump(Look(wall, *[(0.001, 0.0)] * 100, *[(0.4, 0.4)] * 100))
    assert wall["mono"] - began == service.LOOK_EVERY


def test_a_sleep_that_the_count_of_seconds_went_through_ends_the_waiting(wall):
    service.wait_for_jump(Look(wall, (0.0, 0.0), (20.0, 20.0)))
    assert wall["mono"] == 22.0


def test_a_jump_while_the_guest_is_asked_ends_the_waiting_after_it(wall):
    """What the guest told before the jump is worth nothing after it; its way there and back is no jump."""
    made, asked = service.ClockService(), []

    class Asked(Right):
        def correct(self):
            asked.append(wall["mono"])
            wall["mono"] += 0.4
            wall["now"] += 0.4 + (3600.0 if len(asked) == 2 else 0.0)
            if len(asked) == 4:
                made._stopped.set()
            return super().correct()

    made._keep(Asked(queue.Queue()), None, made._stopped, Look(wall))
    usual = service.LOOK_EVERY + 0.4
    assert [round(later - former, 3) for former, later in pairwise(asked)] == [usual, 1.4, usual]


def test_stopping_ends_the_waiting():
    stopped = threading.Event()
    stopped.set()
    service.wait_for_jump(stopped)


class Right:
    """A clock that is right, and tells of each look at it."""

    def __init__(self, looks):
        self.looks = looks

    def correct(self):
        self.looks.put(self)
        return Correction(0.0, 0.0, 0.001, 0)

    def close(self):
        pass


class Unsure(Right):
    """A clock that is off, and known no better than that, some times; then right."""

    def __init__(self, looks, times, within):
        super().__init__(looks)
        self.times, self.within = times, within

    def correct(self):
        super().correct()
        self.times -= 1
        return Correction(3.0, 3.0 if self.times >= 0 else 0.0, self.within, 0)


@pytest.mark.parametrize(("within", "called_right"), [(1.0, False), (2.0, True)])
def test_a_clock_that_could_not_be_set_is_looked_at_again_soon(monkeypatch, within, called_right):
    """And called right, for who was woken, when it may be."""
    waits: list[float] = []
    made = service.ClockService()
    right: list[bool] = []

    def wait(look, most, before):
        waits.append(most)
        right.append(made._right.is_set())
        if len(waits) == 9:
            made._stopped.set()

    monkeypatch.setattr(service, "wait_for_jump", wait)
    made._keep(Unsure(queue.Queue(), 8, within), None, made._stopped, threading.Event())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, service.LOOK_EVERY]
    assert right == [called_right] * 8 + [True]


def test_a_guest_that_answers_again_is_looked_at_on_each_connection(monkeypatch):
    """Not because a time has come: a second lasts an hour here."""
    looks = queue.Queue()
    monkeypatch.setattr(service, "GuestClock", lambda _: Right(looks))
    monkeypatch.setattr(service, "_TICK", 3600.0)
    made = service.ClockService()
    made.answers_again()  # nobody is connected
    for _ in range(2):
        made.start(None, None)
        first = looks.get(timeout=10)
        assert looks.empty()
        made.answers_again()
        assert looks.get(timeout=10) is first
        made.stop()
    for thread in (one for one in threading.enumerate() if one.name == "clock"):
        thread.join(10)
        assert not thread.is_alive(), "a connection that is over is waited for no more"
