"""What a command that is to be forwarded finds when it had to wait for another one."""

from __future__ import annotations

import argparse
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
from machine_files import make_box  # a helper of unit tests

from cli import background, held, ready
from hostvm import locks, qemu_binary
from hostvm.errors import HostvmError, MachineError
from hostvm.state import load_state, save_state


@pytest.fixture
def world(monkeypatch):
    """A machine that went down by itself; `meanwhile` is what the holder of its lock does to it."""
    told = argparse.Namespace(paths=make_box(), ready=False, started=0, meanwhile=lambda: None)

    @contextmanager
    def lock(_):
        told.meanwhile()
        yield

    def start(*_, **__):
        told.started += 1

    monkeypatch.setattr(locks, "machine_lock", lock)
    monkeypatch.setattr(background, "machine_lock", lock)
    monkeypatch.setattr(held, "start_machine", start)
    monkeypatch.setattr(ready, "agent_is_ready", lambda _: told.ready)
    return told


@pytest.fixture(params=[ready.ensure_ready, background.wake])
def begin(request):
    return request.param


def test_a_machine_that_went_down_is_started(world, begin):
    begin(world.paths)
    assert world.started == 1


@pytest.mark.parametrize(
    ("suspended", "state", "asked"), [(True, True, ["amd64"]), (False, True, []), (True, False, [])]
)
def test_qemu_is_asked_before_a_suspended_machine_goes_on(world, begin, monkeypatch, suspended, state, asked):
    """While the command imports what wakes it. A state that is damaged is told of by who wakes it."""
    told = []
    monkeypatch.setattr(qemu_binary, "ask_ahead", told.append)
    monkeypatch.setattr(held, "start_machine", lambda *_, **__: told.append("start"))
    if suspended:
        world.paths.suspended.write_text("{}")
    save_state(world.paths, replace(load_state(world.paths), arch="amd64"))
    if not state:
        world.paths.state.write_text("{")
        with pytest.raises(HostvmError):
            begin(world.paths)
        assert told == []
        return
    begin(world.paths)
    assert told == [*asked, "start"]


def test_one_that_was_stopped_meanwhile_stays_stopped(world, begin):
    def stop():
        save_state(world.paths, replace(load_state(world.paths), wanted_off=True))

    world.meanwhile = stop
    with pytest.raises(MachineError, match="machine box is stopped"):
        begin(world.paths)
    assert world.started == 0


def test_one_that_was_removed_meanwhile_is_told_as_such(world, begin):
    world.meanwhile = lambda: shutil.rmtree(world.paths.folder)
    with pytest.raises(MachineError, match="there is no machine called box"):
        begin(world.paths)


def test_one_that_was_started_meanwhile_is_used_though_none_may_start_it(world):
    def start():
        world.paths.spec.write_text(world.paths.spec.read_text() + "autostart: false\n")
        world.ready = True

    world.meanwhile = start
    ready.ensure_ready(world.paths)
    assert world.started == 0
