"""When a guest is asked whether it is there, and when its connection is given up; the clock is the test's own."""

from __future__ import annotations

from functools import partial

import pytest

from hostvm.agent import watch as module
from hostvm.agent.watch import Watch

FORK, LOGIN = 0.4, 0.6


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Other:
    """A second connection, on which sshd speaks; `attempt` begins to log in there."""

    def __init__(self, guest):
        self.guest, self.closed, self.begun = guest, False, None

    def attempt(self):
        assert not self.closed
        self.begun = self.guest.clock.now
        return self

    @property
    def over(self):
        return self.guest.clock.now >= self.begun + self.guest.login

    def wait(self, seconds):
        self.guest.until(self.guest.clock.now + seconds)

    @property
    def made(self):
        return self.over and self.guest.lets_in

    def close(self):
        self.closed = True


class Guest:
    """Its connection and its sshd; everything lasts as long as it says, by the clock.

    :param answers: seconds until a ping is answered.
    :param cut: when nothing of the connection gets through any more.
    :param ends: when the connection ends by itself.
    """

    def __init__(self, clock, *, answers=0.05, cut=float("inf"), ends=float("inf")):
        self.clock, self.answers, self.cut, self.ends = clock, answers, cut, ends
        self.alive, self.sent, self.lately = True, 0, 0
        self.heard = clock.now
        self.coming: list[float] = []
        self.pings: list[float] = []
        self.others: list[Other] = []
        self.sshd_speaks, self.lets_in, self.login = True, True, LOGIN
        self.does: dict[float, object] = {}
        self.stands_still = False
        self.told_late: list[bool] = []

    def until(self, then, step=0.05):
        while self.clock.now < then and self.alive:
            self.clock.now = min(self.clock.now + step, then)
            for when in [when for when in self.does if when <= self.clock.now]:
                self.does.pop(when)()
            if any(when <= self.clock.now for when in self.coming):
                self.heard, self.sent = self.clock.now, 0
                self.coming = [when for when in self.coming if when > self.clock.now]
            self.alive = self.clock.now < self.ends

    def wait_closed(self, timeout):
        self.until(self.clock.now + max(timeout, 0.001))
        return not self.alive

    def hears(self, timeout):
        self.pings.append(began := self.clock.now)
        if began + self.answers < self.cut:
            self.coming.append(began + self.answers)
        while self.clock.now < began + timeout and self.heard <= began and self.alive:
            self.until(self.clock.now + 0.05)
        return self.heard > began

    def quiet(self):
        return self.clock.now - self.heard

    def sent_since_heard(self):
        return self.sent

    def sent_lately(self):
        return self.lately

    def close(self):
        self.alive = False

    def knock(self, port, seconds):
        self.until(self.clock.now + (FORK if self.sshd_speaks else seconds))
        self.others += [Other(self)] if self.sshd_speaks else []
        return self.others[-1] if self.sshd_speaks else None

    def stood_still(self, connection):
        stood, self.stands_still = self.stands_still, False
        if stood:
            self.until(self.clock.now + 300)
        return stood


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def hold(monkeypatch):
    """Watches a guest to its connection's end: the new one, and what was logged."""

    def run(guest, idle=0.0):
        lines: list[str] = []
        monkeypatch.setattr(module, "knock", guest.knock)
        late = partial(guest.told_late.append, True)
        watch = Watch(1, lambda: idle, guest.stood_still, lines.append, Other.attempt, late)
        return watch.hold(guest), lines

    return run


@pytest.mark.parametrize("late", [0.0, 0.4, 0.8, 1.2, 1.45])
def test_one_that_is_cut_off_while_it_is_used_is_given_up_for_another_within_4_seconds(clock, hold, late):
    guest = Guest(clock, cut=clock.now + 30 + late)
    another, lines = hold(guest)
    assert clock.now - guest.cut < 4
    assert another is guest.others[-1]
    assert not another.closed
    assert len(guest.others) == 1, "it is the one that was asked whether sshd speaks to others"
    assert lines == ["the guest does not answer"]


def test_who_logs_in_slowly_gives_the_old_one_as_long_to_answer(clock, hold):
    """A guest so busy that it takes seconds for that may answer as late; it loses nothing."""
    guest = Guest(clock, answers=5.0, ends=clock.now + 60)
    guest.login = 4.0
    another, lines = hold(guest)
    assert another is None
    assert clock.now >= guest.ends
    assert "the guest answers again" in lines
    cut = Guest(clock, cut=clock.now + 30)
    cut.login = 4.0
    assert hold(cut)[0] is cut.others[0]
    assert cut.others[0].begun + cut.login <= clock.now < cut.others[0].begun + cut.login + 0.2


def test_the_old_one_is_kept_when_nobody_else_can_log_in_either(clock, hold):
    guest = Guest(clock, cut=clock.now + 30)
    guest.lets_in = False
    guest.does[clock.now + 60] = lambda: (setattr(guest, "cut", float("inf")), guest.coming.append(clock.now))
    guest.ends = clock.now + 90
    assert hold(guest)[0] is None
    assert clock.now >= guest.ends
    assert all(other.closed for other in guest.others)


def test_one_that_nobody_uses_is_asked_more_seldom(clock, hold):
    unused, used = Guest(clock, ends=clock.now + 60), Guest(clock, ends=clock.now + 120)
    hold(unused, idle=3600.0)
    assert len(unused.pings) <= 14
    hold(used)
    assert len(used.pings) >= 35
    assert not unused.others + used.others


@pytest.mark.parametrize(("answers", "told"), [(0.05, False), (0.9, False), (1.2, True), (2.3, True)])
def test_whoever_was_late_is_told_of(clock, hold, answers, told):
    """Somebody may have paused it, for less than it takes to call it silent."""
    guest = Guest(clock, answers=answers, ends=clock.now + 20)
    hold(guest, idle=3600.0)
    assert bool(guest.told_late) is told


def test_whoever_is_given_up_was_not_late(clock, hold):
    guest = Guest(clock, cut=clock.now + 30)
    hold(guest)
    assert guest.told_late == []


def test_one_that_says_something_by_itself_is_not_asked(clock, hold):
    guest = Guest(clock, ends=clock.now + 60)
    guest.coming = [clock.now + 0.5 * number for number in range(120)]
    hold(guest)
    assert guest.pings == []


def test_what_was_sent_and_is_not_answered_is_looked_after_at_once_though_nobody_used_the_machine(clock, hold):
    guest = Guest(clock, cut=clock.now + 31)
    begins = clock.now + 32
    guest.does[begins] = lambda: setattr(guest, "sent", 100)
    another, _ = hold(guest, idle=3600.0)
    assert another is guest.others[0]
    assert clock.now - begins < 4


@pytest.mark.parametrize("answers", [1.2, 1.8, 2.3])
def test_a_busy_one_that_answers_late_is_kept_and_given_more_time(clock, hold, answers):
    """Its sshd forks for others before it answers."""
    guest = Guest(clock, answers=answers, ends=clock.now + 120)
    another, lines = hold(guest)
    assert (another, guest.alive) == (None, False)
    assert clock.now >= guest.ends
    assert "the guest answers again" in lines
    assert all(other.closed for other in guest.others)
    assert len(guest.others) < len(guest.pings) / 4, "sshd does not fork for every ping"


def test_a_paused_one_keeps_its_connection_and_is_asked_more_seldom_after_a_minute(clock, hold):
    guest = Guest(clock, cut=clock.now + 1, ends=clock.now + 500)
    guest.sshd_speaks = False
    goes_on = clock.now + 300
    guest.does[goes_on] = lambda: (setattr(guest, "cut", float("inf")), guest.coming.append(clock.now))
    assert hold(guest) == (None, ["the guest does not answer", "the guest answers again"])
    assert clock.now >= guest.ends
    assert len([ping for ping in guest.pings if goes_on - 200 < ping < goes_on]) <= 12


def test_one_that_answers_nobody_is_given_up_after_minutes(clock, hold):
    guest = Guest(clock, cut=clock.now + 1)
    guest.sshd_speaks = False
    assert hold(guest)[0] is None
    assert 540 < clock.now - guest.cut < 600


def test_one_with_much_on_its_way_is_given_more_time(clock, hold):
    guest = Guest(clock, cut=clock.now + 1)
    guest.does[guest.cut] = lambda: setattr(guest, "sent", 1 << 20)
    assert hold(guest)[0] is guest.others[-1]
    assert 15 < clock.now - guest.cut < 25
    assert [other.closed for other in guest.others].count(False) == 1


def test_one_that_was_sent_much_before_it_spoke_last_is_given_more_time(clock, hold):
    """It said that it took a part; a copy of some megabytes to a busy guest was broken off."""
    guest = Guest(clock, cut=clock.now + 1)
    guest.lately = 1 << 20
    assert hold(guest)[0] is guest.others[-1]
    assert 15 < clock.now - guest.cut < 25
    guest = Guest(clock, cut=clock.now + 1)
    guest.lately = 1 << 10
    hold(guest)
    assert clock.now - guest.cut < 4


def test_the_time_that_the_machine_stood_still_for_want_of_room_does_not_count(clock, hold):
    guest = Guest(clock, cut=clock.now + 1)
    guest.sshd_speaks, guest.stands_still = False, True
    hold(guest)
    assert 840 < clock.now - guest.cut < 900
