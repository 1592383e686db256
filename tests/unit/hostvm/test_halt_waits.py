"""How long a stop waits: what the guest says on its console decides. A real file, and a clock of the tests' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hostvm.console import WayDown
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.machines import halt
from hostvm.paths import MachinePaths
from hostvm.spec import default_spec, render_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress

BOOT, STOPPING, STOPPED = (f"hostvm-guest: mark {name} 1.5\r\n" for name in ("root", "stopping", "engine-stopped"))
PANIC = "[    9.1] Kernel panic - not syncing: sysrq triggered crash\r\n"


class Guest(NullProgress):
    """A driver whose guest says something at given seconds after it was asked to stop, and notes what it is told.

    :param off: when it is off by itself.
    """

    def __init__(self, console, off, says=()):
        self.console, self.off_at, self.says = console, off, list(says)
        self.done, self.notes = [], []
        self.now, self.stalls_at = 0.0, None

    def note(self, text):
        self.notes.append(text)

    def state(self):
        return DomainState.STALLED if self.stalls_at is not None and self.now >= self.stalls_at else DomainState.RUNNING

    def unpause(self):
        self.done.append("unpause")
        self.stalls_at = None

    def wait_off(self, timeout):
        self.now += max(0.01, min(timeout, self.off_at - self.now))
        while self.says and self.says[0][0] <= self.now:
            with self.console.open("a", encoding="utf-8", newline="") as file:
                file.write(self.says.pop(0)[1])
        return self.now >= self.off_at

    def powerdown(self):
        self.done.append("acpi")

    def kill(self):
        self.done.append("kill")


@pytest.fixture
def stop(monkeypatch):
    """Stops a machine whose guest does this; gives the guest and the seconds that it took."""
    monkeypatch.setattr(halt, "run_in_guest", lambda *_, **__: None)
    monkeypatch.setattr(halt, "wake_machine", lambda *_: None)
    paths = MachinePaths.of("ci")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(default_spec()))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:a", "now", wanted_off=False))

    def run(off, says=(), console="", stalls_at=None, **options):
        paths.console.write_text(console)
        guest = Guest(paths.console, off, says)
        guest.stalls_at = stalls_at
        monkeypatch.setattr(halt, "machine_driver", lambda *_: guest)
        monkeypatch.setattr(halt, "time", SimpleNamespace(monotonic=lambda: guest.now))
        assert halt.stop_machine(paths, guest, **options)
        return guest, guest.now

    return run


def test_containers_get_their_own_time(stop):
    guest, took = stop(70, [(2, BOOT + STOPPING), (65, STOPPED)])
    assert guest.done == ["kill"]  # which is nothing for one that is off
    assert took == 70
    (told,) = guest.notes
    assert told.endswith("hostvm stop --force ci")
    assert load_state(MachinePaths.of("ci")).wanted_off


def test_one_that_is_off_soon_is_not_waited_for(stop):
    guest, took = stop(3, [(1, STOPPING), (2, STOPPED)])
    assert (guest.done, guest.notes) == (["kill"], [])
    assert took == 3


def test_a_second_stop_goes_on_waiting(stop):
    guest, _ = stop(70, [(60, STOPPED)], console=BOOT + STOPPING)
    assert guest.done == ["kill"]


def test_one_that_never_says_that_it_stops_is_given_up_as_ever(stop):
    guest, took = stop(900, console=BOOT)
    assert guest.done == ["acpi", "kill"]
    assert took == pytest.approx(halt.GUEST_SECONDS + halt.ACPI_SECONDS, abs=1)
    assert guest.notes == ["machine ci does not power itself off; cutting its power"]


@pytest.mark.parametrize("last", [STOPPED, BOOT, PANIC], ids=["engine stopped", "panicked and booted anew", "panicked"])
def test_what_is_over_is_not_waited_for(stop, last):
    guest, took = stop(900, console=BOOT + STOPPING + last)
    assert guest.done == ["acpi", "kill"]
    assert took == pytest.approx(halt.GUEST_SECONDS + halt.ACPI_SECONDS, abs=1)


def test_an_engine_that_never_stops_is_waited_for_once(stop):
    guest, took = stop(900, [(2, STOPPING)])
    assert guest.done == ["acpi", "kill"]
    assert halt.ENGINE_SECONDS < took < halt.ENGINE_SECONDS + halt.GUEST_SECONDS + halt.ACPI_SECONDS + 2


def test_what_goes_wrong_is_told(stop):
    fault = "hostvm-guest: fail stop-dockerd it and its containers were killed after 5 minutes\r\n"
    before = "hostvm-guest: fail stop-x before\n"
    guest, _ = stop(9, [(1, STOPPING), (4, fault[:30]), (6, fault[30:] + STOPPED)], console=before)
    assert guest.notes == ["machine ci stops: dockerd: it and its containers were killed after 5 minutes"]


def test_force_asks_nobody(stop):
    guest, took = stop(900, console=BOOT + STOPPING, force=True)
    assert (guest.done, took) == (["kill"], 0)


def test_without_a_console_nothing_is_known(tmp_path):
    way = WayDown(tmp_path / "none")
    assert (way.engine_stops(), way.faults()) == (False, [])


@pytest.mark.parametrize("answers", [True, False])
def test_one_that_stands_still_on_its_way_down_is_not_cut_off(stop, monkeypatch, answers):
    """The computer's disk got full meanwhile: what containers wrote last would be lost, and nobody asked for that."""
    if not answers:
        monkeypatch.setattr(halt, "run_in_guest", broken)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(MachineError) as error:
        stop(1000, [(2, STOPPING)], stalls_at=3)
    assert error.value.brief == "machine ci stands still: this computer's disk is full"
    assert "hostvm stop --force ci" in error.value.resolution
    assert not load_state(MachinePaths.of("ci")).wanted_off


def test_one_that_its_user_stopped_stays_off_when_it_finishes_that_later(stop, monkeypatch):
    """As soon as there is room; the next docker command started it again."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(MachineError):
        stop(1000, [(2, STOPPING)], stalls_at=3, for_good=True)
    assert load_state(MachinePaths.of("ci")).wanted_off


def test_so_does_one_whose_stop_was_broken_off(stop, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(halt, "run_in_guest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stop(1000, for_good=True)
    assert load_state(MachinePaths.of("ci")).wanted_off


def test_one_that_stands_still_before_it_is_asked_is_not_stopped(stop, monkeypatch):
    def refused(*_):
        raise MachineError("the disk is full")

    monkeypatch.setattr(halt, "wake_machine", refused)
    with pytest.raises(MachineError, match="the disk is full"):
        stop(1000, for_good=True)
    assert not load_state(MachinePaths.of("ci")).wanted_off


def test_one_that_has_room_again_goes_on_down(stop, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 30))
    guest, took = stop(20, [(2, STOPPING)], stalls_at=3)
    assert (guest.done, took) == (["unpause", "kill"], 20)


def broken(*_, **__):
    raise MachineError("no ssh")
