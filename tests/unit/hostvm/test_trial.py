"""What becomes of a machine whose upgrade was killed in the midst of its trial; for real: tests/e2e/test_upgrade.py."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hostvm import process_id
from hostvm.agent.client import agent_is_ready
from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, MachineError
from hostvm.machines import boot, halt, observe, suspend, trial
from hostvm.machines.boot import start_machine
from hostvm.machines.halt import stop_machine
from hostvm.machines.trial import begin_trial, is_broken_off, settle_trial
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, Trial, load_state, save_state
from images.progress import NullProgress

OLDER, OLD, NEW = ("sha256:" + letter * 64 for letter in "0ab")
LEFT = Trial([2**22 + 1, 1.0, ""], OLD, OLDER, wanted_off=False)
STATE = MachineState("u", "m", "amd64", 1, "qemu", NEW, "now", wanted_off=False, former_image=OLD, trial=LEFT)


class Told(NullProgress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def world(monkeypatch):
    """A machine that was left with `NEW` on trial; `stops` holds what it had when it was stopped."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, STATE)
    told = SimpleNamespace(paths=paths, power=DomainState.RUNNING, ready=False, whole=True, stops=[], progress=Told())
    told.driver = SimpleNamespace(state=lambda: told.power, has_crashed=lambda: False)

    def stop():
        told.stops.append(load_state(paths).image)
        save_state(paths, replace(load_state(paths), wanted_off=True))

    told.settle = lambda: settle_trial(paths, told.driver, told.progress, stop)
    monkeypatch.setattr(trial, "agent_is_ready", lambda _: told.ready)
    monkeypatch.setattr(trial, "is_whole", lambda _: told.whole)
    return told


def test_a_trial_is_kept_in_the_state(world):
    assert load_state(world.paths) == STATE
    facts = json.loads(world.paths.state.read_text())
    for damaged in ({"process": [1]}, {**facts["trial"], "image": 5}, 5, []):
        world.paths.state.write_text(json.dumps(facts | {"trial": damaged}))
        with pytest.raises(MachineError, match="is damaged"):
            load_state(world.paths)
    world.paths.state.write_text(json.dumps({**facts, "trial": {**facts["trial"], "more": 1}}))
    assert load_state(world.paths) == STATE


def test_who_tries_is_this_process():
    state = begin_trial(replace(STATE, image=OLD, former_image=OLDER, wanted_off=False, trial=None), NEW)
    assert (state.image, state.former_image) == (NEW, OLD)
    assert (state.trial.image, state.trial.former_image, state.trial.wanted_off) == (OLD, OLDER, False)
    assert not is_broken_off(state)
    assert is_broken_off(replace(state, trial=replace(state.trial, process=[os.getpid(), 1.0, "another boot"])))


@pytest.mark.parametrize("power", [DomainState.OFF, DomainState.RUNNING, DomainState.CRASHED, DomainState.PAUSED])
def test_one_that_is_not_ready_goes_back(world, power):
    world.power = power
    assert world.settle()
    state = load_state(world.paths)
    assert (state.image, state.former_image, state.wanted_off, state.trial) == (OLD, OLDER, False, None)
    assert world.stops == [NEW], "first off, then another image"
    assert world.progress.notes == [
        "the upgrade of machine box to image bbbbbbbbbbbb was broken off; its image is aaaaaaaaaaaa again"
    ]
    assert not world.settle()


def test_one_that_its_user_stopped_since_stays_off(world):
    world.power = DomainState.OFF
    save_state(world.paths, replace(STATE, wanted_off=True))
    assert world.settle()
    assert load_state(world.paths).wanted_off


def test_one_that_is_ready_keeps_the_image_that_was_tried(world):
    world.ready = True
    assert not world.settle()
    state = load_state(world.paths)
    assert (state.image, state.former_image, state.trial) == (NEW, OLD, None)
    assert world.stops == []
    assert world.progress.notes == [
        "the upgrade of machine box was broken off; it keeps image bbbbbbbbbbbb, which works"
    ]


def test_one_that_becomes_ready_while_the_former_image_is_read_is_not_stopped(world, monkeypatch):
    def read(_):
        world.ready = True
        return True

    monkeypatch.setattr(trial, "is_whole", read)
    assert not world.settle()
    assert (load_state(world.paths).image, load_state(world.paths).trial, world.stops) == (NEW, None, [])


def test_one_that_was_suspended_since_keeps_it_with_its_memory(world):
    world.power = DomainState.OFF
    world.paths.suspended.write_text("{}")
    assert not world.settle()
    assert load_state(world.paths).image == NEW
    assert world.stops == []


def test_one_whose_former_image_is_gone_keeps_it(world):
    world.whole = False
    assert not world.settle()
    state = load_state(world.paths)
    assert (state.image, state.former_image, state.trial) == (NEW, "", None)
    assert "it stays, since aaaaaaaaaaaa is gone or damaged" in world.progress.notes[0]


def test_one_that_became_ready_as_it_was_stopped_keeps_it(world):
    def stop():
        world.ready = True
        trial.keep_proven(world.paths, world.driver, world.progress)

    assert not settle_trial(world.paths, world.driver, world.progress, stop)
    assert load_state(world.paths).image == NEW


def test_one_that_cannot_be_stopped_is_settled_the_next_time(world):
    def stop():
        raise DriverError("QEMU cannot be killed")

    with pytest.raises(DriverError):
        settle_trial(world.paths, world.driver, world.progress, stop)
    assert load_state(world.paths) == STATE


def test_a_trial_whose_command_lives_is_left_alone(world):
    me = process_id.identify(os.getpid())
    own = replace(STATE, trial=replace(LEFT, process=me.facts()))
    save_state(world.paths, own)
    assert not world.settle()
    assert load_state(world.paths) == own


def test_a_start_begins_with_the_former_image(world, monkeypatch):
    world.power = DomainState.OFF
    booted = []

    def power_on(_paths, _spec, state, *_):
        booted.append(state.image)
        raise DriverError("far enough")

    world.driver.kill = lambda: None
    monkeypatch.setattr(boot, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr(boot, "stop_machine", lambda *_: None)
    monkeypatch.setattr(boot, "_power_on", power_on)
    with pytest.raises(DriverError, match="far enough"):
        start_machine(world.paths, world.progress, None)
    assert booted == [OLD]
    assert load_state(world.paths).image == OLD


@pytest.mark.parametrize("gets_ready", [True, False])
def test_one_that_runs_and_whose_agent_died_is_no_failure_unless_it_does_not_get_ready(world, monkeypatch, gets_ready):
    """Containers run in it; only a machine that cannot be made ready is stopped for its former image."""
    starts = []

    def start(paths, *_, **__):
        starts.append(load_state(paths).image)
        if not gets_ready and len(starts) == 1:
            raise DriverError("it does not get ready")
        return 1.0

    monkeypatch.setattr(boot, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr(boot, "stop_machine", lambda *_, **__: world.stops.append("stopped"))
    monkeypatch.setattr(boot, "_start", start)
    assert start_machine(world.paths, world.progress, None) == 1.0
    assert starts == ([NEW] if gets_ready else [NEW, OLD])
    assert world.stops == ([] if gets_ready else ["stopped"])


@pytest.mark.parametrize("ready", [True, False])
def test_a_stop_keeps_what_was_ready_and_leaves_the_rest_to_the_next_start(world, monkeypatch, ready):
    world.ready = ready
    world.driver.kill = lambda: None
    monkeypatch.setattr(halt, "machine_driver", lambda *_: world.driver)
    stop_machine(world.paths, world.progress, force=True)
    state = load_state(world.paths)
    assert (state.image, state.trial) == (NEW, None if ready else LEFT)


def test_a_pause_keeps_what_was_ready(world, monkeypatch):
    world.ready = True
    world.driver.pause = lambda: None
    monkeypatch.setattr(suspend, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr(suspend, "agent_is_ready", lambda _: True)
    for name in ("load_config", "hand_over"):
        monkeypatch.setattr(suspend, name, lambda *_: None)
    assert suspend.pause_machine(world.paths)
    assert load_state(world.paths).trial is None


def test_status_tells_of_it(world):
    assert not agent_is_ready(world.paths.run_dir)
    seen = observe.observe(world.paths)
    assert (
        "upgrade",
        f"to image {'b' * 12} was broken off; from the next start on the machine has image {'a' * 12} again",
    ) in (seen.lines())
    seen.status = "running"
    assert dict(seen.lines())["upgrade"].endswith("from the next start on the machine keeps it")
    me = process_id.identify(os.getpid())
    seen.state = replace(STATE, trial=replace(LEFT, process=me.facts()))
    assert dict(seen.lines())["upgrade"] == f"image {'b' * 12} is being tried, in place of {'a' * 12}"
    assert seen.everything()["made"]["trial"]["image"] == OLD
