"""When an upgrade goes forward and when back; machines are started for real in tests/e2e/test_upgrade.py."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm import process_id
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.machines import trial, upgrade
from hostvm.machines.upgrade import upgrade_machine
from hostvm.paths import MachinePaths
from hostvm.process_id import ProcessId
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, load_spec, render_spec
from hostvm.state import MachineState, Trial, load_state, save_state
from images.progress import NullProgress
from images.store import Image

OLDER, OLD, NEW = ("sha256:" + letter * 64 for letter in "0ab")


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
        paths=paths,
        power=DomainState.RUNNING,
        done=[],
        tried=[],
        faults={},
        stuck=[],
        whole=True,
        residents=Residents(),
    )

    def start(_paths, *_):
        image = load_state(paths).image
        told.done.append(("start", image[7]))
        told.tried.append(load_state(paths).trial)
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
    for name in ("verify_image", "check_startable"):
        monkeypatch.setattr(upgrade, name, lambda *_: None)
    for place in (upgrade, trial):
        monkeypatch.setattr(place, "is_whole", lambda _: told.whole)

    def run(word="", arch="amd64", digest=NEW):
        image = Image(digest[7:], Path("x"), {"arch": arch})
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


@pytest.mark.parametrize("power", [DomainState.RUNNING, DomainState.OFF])
def test_the_console_of_a_boot_that_said_nothing_is_not_shown(world, power):
    """The file that would be named is that of the boot before, which went well."""
    world.power, world.faults[NEW] = power, MachineError("not ready in time")
    for said, shown in ((b"Kernel panic", True), (b"", False)):
        world.paths.console.write_bytes(said)
        with pytest.raises(MachineError) as caught:
            world.run()
        assert ("console.log" in caught.value.resolution) is shown
    assert "said nothing on its console" in caught.value.details
    assert caught.value.resolution == f"make that image anew: hostvm image rm {'b' * 12} && hostvm upgrade ci"


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


def interrupt_stops(world, monkeypatch, *outcomes):
    """Each stop ends with the next of these, None for well; gives whether each was forced, and the image then."""
    stops, rest = [], list(outcomes)

    def stop(paths, *_, force=False):
        stops.append((force, load_state(paths).image[7]))
        if (outcome := rest.pop(0)) is not None:
            raise outcome

    monkeypatch.setattr(upgrade, "stop_machine", stop)
    return stops


def test_ctrl_c_on_the_way_back_cuts_the_power_before_the_former_image_is_written(world, monkeypatch):
    """Else a machine would run with an image, and be suspended with it, that it is not said to have."""
    world.faults[NEW] = MachineError("no engine")
    stops = interrupt_stops(world, monkeypatch, None, KeyboardInterrupt(), None)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert stops == [(False, "a"), (False, "b"), (True, "b")]
    state = load_state(world.paths)
    assert (state.image, state.trial, state.wanted_off) == (OLD, None, False)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_second_ctrl_c_leaves_the_way_back_to_the_next_start(world, monkeypatch, fault):
    world.faults[NEW] = fault
    interrupt_stops(world, monkeypatch, None, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        world.run()
    state = load_state(world.paths)
    assert (state.image, state.trial.image) == (NEW, OLD)
    monkeypatch.setattr(process_id, "is_alive", lambda _: False)  # the command has ended
    monkeypatch.setattr(trial, "agent_is_ready", lambda _: False)
    driver = argparse.Namespace(state=lambda: DomainState.RUNNING)
    assert trial.settle_trial(world.paths, driver, NullProgress(), lambda: None)
    assert load_state(world.paths).image == OLD


def test_ctrl_c_gives_no_machine_an_image_back_that_is_gone(world):
    world.whole = False
    world.faults[NEW] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.run()
    state = load_state(world.paths)
    assert (state.image, state.former_image, state.wanted_off) == (NEW, "", False)


@pytest.mark.parametrize("fault", [MachineError("no engine"), KeyboardInterrupt()])
def test_a_disk_that_was_made_in_a_trial_is_not_forgotten_with_it(world, monkeypatch, fault):
    """It would be made anew, empty, if its file were lost."""

    def start(paths, *_):
        save_state(paths, replace(load_state(paths), disks=["more"], ssh_port=7))
        raise fault

    monkeypatch.setattr(upgrade, "start_machine", start)
    with pytest.raises(type(fault)):
        world.run()
    state = load_state(world.paths)
    assert (state.image, state.disks, state.ssh_port) == (OLD, ["more"], 7)


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


def test_a_machine_whose_image_is_gone_gets_the_new_one_for_good(world):
    world.whole = False
    world.faults[NEW] = MachineError("no engine")
    with pytest.raises(MachineError, match="no engine"):
        world.run()
    state = load_state(world.paths)
    assert (state.image, state.former_image) == (NEW, "")
    assert world.tried == [None], "there is nothing to go back to"


def test_a_trial_is_written_down_before_the_new_image_is_booted_and_gone_with_it(world):
    save_state(world.paths, replace(load_state(world.paths), former_image=OLDER))
    world.run()
    (tried,) = world.tried
    assert (tried.image, tried.former_image, tried.wanted_off) == (OLD, OLDER, False)
    assert process_id.is_alive(ProcessId.of(tried.process))
    assert load_state(world.paths).trial is None


@pytest.mark.parametrize("fault", [MachineError("no engine"), KeyboardInterrupt()])
def test_a_trial_that_failed_is_over(world, fault):
    world.faults[NEW] = fault
    with pytest.raises(type(fault)):
        world.run()
    assert world.tried[0] is not None
    assert load_state(world.paths).trial is None


def broken_off(paths, **changes):
    """As a command leaves it that is killed while it tries `NEW`."""
    left = Trial([2**22 + 1, 1.0, ""], OLD, OLDER, wanted_off=False)
    save_state(paths, replace(load_state(paths), image=NEW, former_image=OLD, trial=left, **changes))


@pytest.mark.parametrize("power", [DomainState.RUNNING, DomainState.OFF])
def test_an_upgrade_after_one_that_was_broken_off_begins_from_the_former_image(world, monkeypatch, power):
    broken_off(world.paths)
    world.power = power
    monkeypatch.setattr(trial, "agent_is_ready", lambda _: False)
    world.run()
    starts = [image for what, image in world.done if what == "start"]
    assert starts == ["b"]
    assert world.done[-1] == ("start", "b"), "it ran before the first of the two, and runs now"
    state = load_state(world.paths)
    assert (state.image, state.former_image, state.trial) == (NEW, OLD, None)


def test_an_upgrade_back_to_the_former_image_after_one_that_was_broken_off(world, monkeypatch):
    broken_off(world.paths)
    monkeypatch.setattr(trial, "agent_is_ready", lambda _: False)
    assert world.run(digest=OLD) is None
    assert world.done == [("stop", "b"), ("start", "a")]
    assert load_state(world.paths).former_image == OLDER


def test_one_that_was_broken_off_and_is_ready_needs_no_other(world, monkeypatch):
    broken_off(world.paths)
    monkeypatch.setattr(trial, "agent_is_ready", lambda _: True)
    assert world.run() is None
    assert world.done == []
    assert load_state(world.paths).trial is None


@pytest.mark.parametrize("before", [True, False])
def test_one_that_stands_still_since_this_computers_disk_is_full_says_so(world, monkeypatch, before):
    """Before its engine is asked, which does not answer then, or while it is."""

    def note():
        assert not before, "its engine was asked"
        world.power = DomainState.STALLED
        raise MachineError("GET /containers/json of machine ci was cut off")

    world.residents.note = note
    world.power = DomainState.STALLED if before else DomainState.RUNNING
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=4096))
    with pytest.raises(MachineError, match="ci stands still: this computer's disk is full"):
        world.run()
    assert (world.done, load_state(world.paths).image) == ([], OLD)
