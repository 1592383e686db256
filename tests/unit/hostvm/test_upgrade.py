"""When an upgrade goes forward and when back; machines are started for real in tests/e2e/test_upgrade.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.machines import upgrade
from hostvm.machines.upgrade import upgrade_machine
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, load_spec, render_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress
from images.store import Image

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Residents:
    lost: tuple[str, ...] = ()

    def note(self):
        pass

    def missing(self):
        return list(self.lost)


@pytest.fixture
def world(monkeypatch):
    """A machine that runs, and every start and stop of it written down with the image it had then."""
    paths = MachinePaths.of("ci")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", OLD, "now", wanted_off=False))
    told = argparse.Namespace(
        paths=paths, power=DomainState.RUNNING, done=[], faults={}, stuck=[], residents=Residents()
    )

    def start(_paths, *_):
        image = load_state(paths).image
        told.done.append(("start", image[7]))
        if image in told.faults:
            raise told.faults[image]
        return 2.0

    monkeypatch.setattr(upgrade, "start_machine", start)

    def stop(_paths, *_, **__):
        image = load_state(paths).image
        told.done.append(("stop", image[7]))
        if image in told.stuck:
            raise MachineError("QEMU cannot be killed", None, "ps")

    monkeypatch.setattr(upgrade, "stop_machine", stop)
    monkeypatch.setattr(upgrade, "machine_driver", lambda *_: argparse.Namespace(state=lambda: told.power))
    monkeypatch.setattr(upgrade, "agent_is_ready", lambda _: True)
    for name in ("verify_image", "stored_image", "check_startable"):
        monkeypatch.setattr(upgrade, name, lambda *_: None)

    def run(word="", arch="amd64"):
        image = Image(NEW[7:], Path("x"), {"arch": arch})
        return upgrade_machine(paths, image, NullProgress(), None, told.residents, word)

    told.run = run
    return told


def test_forward(world):
    done = world.run("mine")
    assert (done.before, done.after) == (OLD, NEW)
    assert world.done == [("stop", "a"), ("start", "b")]
    state = load_state(world.paths)
    assert (state.image, state.former_image) == (NEW, OLD)
    assert load_spec(world.paths.spec).image == "mine"
    assert world.run() is None


def test_one_that_is_off_is_off_afterwards(world):
    world.power = DomainState.OFF
    world.run()
    assert world.done == [("start", "b"), ("stop", "b")]
    assert load_state(world.paths).wanted_off is False, "as it was"


def test_back_when_the_new_one_does_not_start(world):
    world.faults[NEW] = MachineError("no engine", "its words", "look")
    with pytest.raises(MachineError) as caught:
        world.run("mine")
    assert world.done == [("stop", "a"), ("start", "b"), ("stop", "b"), ("start", "a")]
    assert load_state(world.paths).image == OLD
    assert load_spec(world.paths.spec).image == "docker"
    assert caught.value.brief == f"machine ci was not upgraded to image {'b' * 12}"
    assert caught.value.details.splitlines()[:2] == ["no engine", "its words"]
    assert "it runs again" in caught.value.details


def test_back_when_a_container_does_not_return(world):
    world.residents.lost = ("db", "web")
    with pytest.raises(MachineError) as caught:
        world.run()
    assert world.done[-1] == ("start", "a")
    assert "each of the containers db, web" in caught.value.details


def test_both_faults_are_told_when_the_way_back_fails_too(world):
    world.faults = {NEW: MachineError("no engine"), OLD: MachineError("no room", None, "df -h")}
    with pytest.raises(MachineError) as caught:
        world.run()
    assert "does not start with it either: no room" in caught.value.details
    assert caught.value.resolution == "df -h"


def test_ctrl_c_leaves_the_former_image(world):
    world.faults[NEW] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert world.done[-1] == ("stop", "b")
    assert load_state(world.paths).image == OLD
    assert load_state(world.paths).wanted_off is False, "the next command starts it"


@pytest.mark.parametrize("fault", [MachineError("no engine"), KeyboardInterrupt()])
def test_the_former_image_is_written_back_though_the_new_ones_guest_cannot_be_stopped(world, fault):
    world.faults[NEW], world.stuck = fault, [NEW]
    with pytest.raises(MachineError) as caught:
        world.run()
    assert load_state(world.paths).image == OLD
    assert world.done[-1] == ("stop", "b"), "it is not started a second time"
    if isinstance(fault, MachineError):
        assert "no engine" in caught.value.details
        assert "cannot be stopped: QEMU cannot be killed" in caught.value.details


def test_an_image_of_another_architecture_is_refused_before_anything_stops(world):
    with pytest.raises(MachineError, match="is none for machine ci"):
        world.run(arch="arm64")
    assert world.done == []


def test_a_machine_whose_image_is_gone_gets_the_new_one_for_good(world, monkeypatch):
    def gone(_):
        raise MachineError("no image")

    monkeypatch.setattr(upgrade, "stored_image", gone)
    world.faults[NEW] = MachineError("no engine")
    with pytest.raises(MachineError, match="no engine"):
        world.run()
    state = load_state(world.paths)
    assert (state.image, state.former_image) == (NEW, "")
