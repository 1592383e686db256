"""When a guest that runs is called silent; the clock is the test's own."""

from __future__ import annotations

import pytest

from hostvm.agent import silence as module
from hostvm.agent.silence import Silence
from hostvm.console import BOOT_MARK, SSH_MARK, STOPPING_MARK


class Clock:
    """In place of `time`; a time of day is told in seconds."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now + 1_000_000.0

    def localtime(self, seconds):
        return seconds

    def strftime(self, _, seconds):
        return f"{seconds:.0f}"


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(module, "time", made := Clock())
    return made


@pytest.fixture
def console(tmp_path):
    made = tmp_path / "console.log"
    made.write_bytes(BOOT_MARK + b"1\n" + SSH_MARK + b" port 22.\n")
    return made


@pytest.fixture
def silence(clock, console):
    return Silence("box", console)


def after(silence, clock, seconds):
    clock.now += seconds
    return silence.look()


def test_it_is_told_from_when_it_began_and_not_at_once(silence, clock):
    assert silence.look() == 0.0
    assert after(silence, clock, 9.0) == 9.0
    assert (silence.since, silence.words()) == ("", "")
    assert after(silence, clock, 2.0) == 11.0
    assert silence.since == "1000100"
    assert silence.words() == "it runs, but its ssh server has not answered since 1000100: hostvm restart box"
    after(silence, clock, 100.0)
    assert silence.since == "1000100"
    fault = silence.error(40022)
    assert fault.brief == "machine box runs, but its ssh server does not answer"
    assert (fault.details, fault.resolution) == (
        "since 1000100 nothing spoke on 127.0.0.1:40022",
        "hostvm restart box",
    )


@pytest.mark.parametrize("said", [BOOT_MARK + b"2\n", b"Kernel panic - not syncing: x\n", STOPPING_MARK + b"3\n"])
def test_a_guest_that_boots_anew_or_goes_down_is_not_silent(silence, clock, console, said):
    silence.look()
    after(silence, clock, 11.0)
    assert silence.since
    with console.open("ab") as file:
        file.write(said)
    assert after(silence, clock, 60.0) == 0.0
    assert silence.since == ""
    with console.open("ab") as file:
        file.write(BOOT_MARK + b"4\n" + SSH_MARK + b"\n")
    assert after(silence, clock, 1.0) == 0.0, "counted anew"
    assert after(silence, clock, 11.0) == 11.0


def test_one_that_spoke_is_counted_anew_and_one_without_a_console_is_not(silence, clock, console):
    silence.look()
    after(silence, clock, 11.0)
    silence.over()
    assert (silence.since, after(silence, clock, 5.0)) == ("", 0.0)
    console.unlink()
    assert after(silence, clock, 60.0) == 0.0
