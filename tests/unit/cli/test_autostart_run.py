"""`hostvm autostart run`: how it ends when another command does something to the machine that it watches."""

from __future__ import annotations

import argparse
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
from machine_files import make_box  # a helper of unit tests

from cli.commands import autostart
from hostvm import locks
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.locks import BusyError
from hostvm.state import load_state, save_state


class Driver:
    """Its machine runs until it is told otherwise."""

    def __init__(self):
        self.power = DomainState.RUNNING

    def state(self):
        return self.power


@pytest.fixture
def world(monkeypatch):
    """A machine that runs; `steps` are what others do while it is watched, one at each look."""
    told = argparse.Namespace(paths=make_box(), driver=Driver(), steps=[], stopped=0, busy=0)

    @contextmanager
    def lock(_):
        if told.busy:
            told.busy -= 1
            raise BusyError("machine box is busy")
        yield

    def stop(paths, _):
        load_state(paths)
        told.stopped += 1

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(autostart, "machine_lock", lock)
    monkeypatch.setattr(locks, "machine_lock", lock)
    monkeypatch.setattr(autostart.held, "start", lambda *_: 1.0)
    monkeypatch.setattr(autostart, "stop_machine", stop)
    monkeypatch.setattr(autostart, "machine_driver", lambda *_: told.driver)
    monkeypatch.setattr(autostart, "sleeper_status", lambda _: None)
    monkeypatch.setattr(autostart.time, "sleep", lambda _: told.steps.pop(0)())
    return told


def run():
    return autostart.run(argparse.Namespace(name="box", machine="", quiet=True))


def test_a_machine_that_is_removed_is_no_failure_of_the_login_service(world):
    def remove():
        world.driver.power = DomainState.OFF
        shutil.rmtree(world.paths.folder)

    world.steps = [remove]
    assert run() == 0


def test_nor_is_one_that_was_removed_a_moment_before_the_session_ends(world):
    def remove():
        shutil.rmtree(world.paths.folder)
        raise KeyboardInterrupt

    world.steps = [remove]
    assert run() == 0
    assert world.stopped == 0


def test_a_session_that_ends_stops_its_machine_and_leaves_it_wanted(world):
    def end():
        raise KeyboardInterrupt

    world.steps = [end]
    assert run() == 0
    assert world.stopped == 1
    assert not load_state(world.paths).wanted_off


def test_a_command_that_holds_the_machine_for_long_does_not_end_the_watch(world):
    """An upgrade, whose trial's boot takes more than the two minutes that a lock is waited for."""
    ends = []

    def stopped_for_its_trial():
        world.driver.power, world.busy = DomainState.OFF, 1

    def runs_again():
        world.driver.power = DomainState.RUNNING

    def stopped_by_its_user():
        world.driver.power = DomainState.OFF
        save_state(world.paths, replace(load_state(world.paths), wanted_off=True))
        ends.append("by its user")

    world.steps = [stopped_for_its_trial, runs_again, stopped_by_its_user]
    assert run() == 0
    assert ends == ["by its user"]


def test_one_that_went_down_by_itself_is_told_with_the_command_that_starts_it_and_no_other(world):
    def die():
        world.driver.power = DomainState.OFF

    world.steps = [die]
    with pytest.raises(MachineError, match="machine box went down by itself") as caught:
        run()
    assert caught.value.resolution == "hostvm logs --console box   # then: hostvm start box"
