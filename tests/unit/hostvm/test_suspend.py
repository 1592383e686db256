"""What becomes of a machine whose suspend or pause is broken off; real guests: tests/e2e/test_suspend.py."""

from __future__ import annotations

import argparse
import threading

import pytest

from hostvm.agent.config import AgentConfig
from hostvm.drivers.base import DomainState
from hostvm.errors import AgentError, DriverError, MachineError
from hostvm.machines import snapshots, suspend
from hostvm.machines.asleep import InUseError
from hostvm.machines.observe import paused_why
from hostvm.machines.snapshots import create_snapshot
from hostvm.machines.suspend import UnsavableError, pause_machine, suspend_machine
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, save_state
from images.progress import NullProgress

RELEASE = suspend._release
AGENT = AgentConfig("box", "/r", "/h", "/l", 1, "/k", "key", "/run/docker.sock", "/c", 1.0)


class Driver:
    """One whose `save` and `pause` end as `ending` says."""

    features = argparse.Namespace(name="qemu", saves_state=True, remote=False)

    def __init__(self):
        self.power, self.ending, self.unpaused = DomainState.RUNNING, lambda: None, 0

    def state(self):
        return self.power

    def board(self, _):
        return []

    def save(self, target, commit):
        target.write_bytes(b"ram")
        self.commit = lambda: commit("QEMU 7.2.22")
        self.ending()

    def pause(self):
        self.ending()

    def unpause(self):
        self.unpaused += 1
        self.power = DomainState.RUNNING


@pytest.fixture
def world(monkeypatch):
    """A machine that runs; what is done to its agent and its sleeper is written down."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.make_run_dir()
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    paths.data_disk.write_bytes(b"disk")
    paths.domain.write_text("{}")
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False))
    told = argparse.Namespace(paths=paths, driver=Driver(), agent=True, sleeper=False, woken=[])

    def hand_over(*_, **__):
        told.agent, told.sleeper = False, True

    def spawn(config):
        assert config is AGENT
        told.agent = True

    def end_sleeper(*_, **__):
        told.sleeper = False

    for name, does in {
        "machine_driver": lambda *_: told.driver,
        "_domain": lambda _: argparse.Namespace(shares=(), disks=()),
        "_release": lambda *_: None,
        "agent_is_ready": lambda _: told.agent,
        "load_config": lambda _: AGENT,
        "load_server": lambda _: None,
        "hand_over": hand_over,
        "end_agent": lambda _: None,
        "spawn_agent": spawn,
        "wait_awake": lambda *_: None,
        "take_back": end_sleeper,
        "end_sleeper": end_sleeper,
    }.items():
        monkeypatch.setattr(suspend, name, does)
    return told


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize("power", [DomainState.OFF, DomainState.PAUSED])
def test_ctrl_c_after_the_memory_was_saved_keeps_it(world, power):
    def ending():
        world.driver.commit()
        world.driver.power = power
        raise KeyboardInterrupt

    world.driver.ending = ending
    with pytest.raises(KeyboardInterrupt):
        suspend_machine(world.paths, NullProgress(), str)
    assert world.paths.suspended.exists()
    assert world.paths.suspended_ram.read_bytes() == b"ram"
    assert (world.agent, world.sleeper) == (False, True)


def test_a_machine_that_runs_on_drops_what_was_saved(world):
    def ending():
        world.driver.commit()
        raise KeyboardInterrupt

    world.driver.ending = ending
    with pytest.raises(KeyboardInterrupt):
        suspend_machine(world.paths, NullProgress(), str)
    assert not world.paths.suspended.exists()
    assert not world.paths.suspended_ram.exists()
    assert (world.agent, world.sleeper) == (True, False)


@pytest.mark.parametrize("whole", [True, False])
def test_half_a_state_of_a_machine_that_ended_goes(world, whole):
    def ending():
        world.driver.power = DomainState.OFF
        if whole:  # QEMU's driver removes it when the save is undone
            world.driver.commit()
            world.paths.suspended_ram.unlink()
        raise DriverError("QEMU has ended")

    world.driver.ending = ending
    with pytest.raises(DriverError):
        suspend_machine(world.paths, NullProgress(), str)
    assert not world.paths.suspended.exists()
    assert not world.paths.suspended_ram.exists()
    assert (world.agent, world.sleeper) == (False, False)


@pytest.mark.parametrize("fault", [DriverError("QEMU does not answer"), KeyboardInterrupt()])
def test_a_machine_that_is_not_paused_after_all_has_its_agent_back(world, fault):
    def ending():
        raise fault

    world.driver.ending = ending
    with pytest.raises(type(fault)):
        pause_machine(world.paths)
    assert (world.agent, world.sleeper) == (True, False)


def test_one_that_was_paused_when_ctrl_c_came_is_paused(world):
    def ending():
        world.driver.power = DomainState.PAUSED
        raise KeyboardInterrupt

    world.driver.ending = ending
    with pytest.raises(KeyboardInterrupt):
        pause_machine(world.paths)
    assert (world.agent, world.sleeper) == (False, True)


@pytest.mark.parametrize("act", [pause_machine, lambda paths: suspend_machine(paths, NullProgress(), str)])
def test_ctrl_c_while_the_agent_ends_brings_it_back(world, monkeypatch, act):
    def hand_over(*_, **__):
        world.agent, world.sleeper = False, True
        raise KeyboardInterrupt

    monkeypatch.setattr(suspend, "hand_over", hand_over)
    with pytest.raises(KeyboardInterrupt):
        act(world.paths)
    assert (world.agent, world.sleeper) == (True, False)


def test_one_in_use_keeps_its_agent_and_has_its_folders_again(world, monkeypatch):
    shared = []

    def in_use(*_, **__):
        raise InUseError("machine box is in use")

    monkeypatch.setattr(suspend, "hand_over", in_use)
    monkeypatch.setattr(suspend, "spawn_agent", lambda _: pytest.fail("started another agent"))
    monkeypatch.setattr(suspend, "missing_shares", shared.append)
    with pytest.raises(InUseError):
        suspend_machine(world.paths, NullProgress(), str, after=1.0)
    assert shared == [world.paths.run_dir]


def test_folders_that_were_released_when_ctrl_c_came_are_shared_again(world, monkeypatch):
    shared = []

    def released(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(suspend, "_release", released)
    monkeypatch.setattr(suspend, "missing_shares", shared.append)
    with pytest.raises(KeyboardInterrupt):
        suspend_machine(world.paths, NullProgress(), str)
    assert shared == [world.paths.run_dir]


def test_a_snapshot_lets_the_machine_go_on_though_ctrl_c_came_when_it_was_suspended(world, monkeypatch):
    def suspended(*_):
        world.driver.power = DomainState.OFF
        raise KeyboardInterrupt

    def wake(_paths, driver, _progress):
        driver.power = DomainState.RUNNING

    monkeypatch.setattr(snapshots, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr(snapshots, "suspend_machine", suspended)
    monkeypatch.setattr(snapshots, "wake_machine", wake)
    with pytest.raises(KeyboardInterrupt):
        create_snapshot(world.paths, "now", NullProgress(), str)
    assert world.driver.power is DomainState.RUNNING


def test_a_snapshot_leaves_nobody_listening_in_its_agents_place(world, monkeypatch):
    """Who listened while it was suspended: it would start the machine again after a power-off in the guest."""

    def suspended(*_):
        world.driver.power, world.sleeper = DomainState.OFF, True

    def wake(_paths, driver, _progress):
        driver.power = DomainState.RUNNING
        return True

    def take_back(run_dir):
        assert run_dir == world.paths.run_dir
        world.sleeper = False

    monkeypatch.setattr(snapshots, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr(snapshots, "suspend_machine", suspended)
    monkeypatch.setattr(snapshots, "wake_machine", wake)
    monkeypatch.setattr(snapshots, "take_back", take_back)
    monkeypatch.setattr(snapshots, "freeze_disks", lambda *_: {})
    create_snapshot(world.paths, "now", NullProgress(), str)
    assert (world.driver.power, world.sleeper) == (DomainState.RUNNING, False)


@pytest.mark.parametrize("fault", [DriverError("sync takes longer than 60 s"), KeyboardInterrupt()])
def test_one_that_stands_still_since_this_computers_disk_is_full_says_so(world, monkeypatch, fault):
    def release(*_):
        world.driver.power = DomainState.STALLED
        monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=4096))
        raise fault

    monkeypatch.setattr(suspend, "_release", release)
    with pytest.raises((MachineError, KeyboardInterrupt)) as error:
        suspend_machine(world.paths, NullProgress(), str)
    if isinstance(fault, DriverError):
        assert error.value.brief == "machine box stands still: this computer's disk is full"
    else:
        assert error.value is fault


def test_on_a_full_disk_nothing_is_begun(world, monkeypatch):
    """The guest's sync would have halted it, and the user heard of that after a minute."""
    monkeypatch.setattr(suspend, "_release", lambda *_: pytest.fail("asked the guest"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=4096))
    with pytest.raises(MachineError, match="machine box cannot be suspended as it is") as error:
        suspend_machine(world.paths, NullProgress(), str)
    assert not isinstance(error.value, UnsavableError), "there may be room a while later"
    assert error.value.details == f"this computer's disk is full: 4 KiB are free in {world.paths.folder}"
    assert error.value.resolution.startswith(f"df -h {world.paths.folder}")
    assert (world.driver.power, world.agent, world.sleeper) == (DomainState.RUNNING, True, False)


def test_a_guest_whose_sync_halts_it_is_not_waited_for(world, monkeypatch):
    released, ended = threading.Event(), []

    def run_in_guest(*_, timeout):
        world.driver.power = DomainState.STALLED
        monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=4096))
        released.wait(timeout)
        ended.append(timeout)

    monkeypatch.setattr(suspend, "_release", RELEASE)
    monkeypatch.setattr(suspend, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(suspend, "run_in_guest", run_in_guest)
    with pytest.raises(MachineError, match="machine box stands still: this computer's disk is full"):
        suspend_machine(world.paths, NullProgress(), str)
    assert ended == []
    released.set()


def test_a_sync_that_fails_ends_the_suspend(world, monkeypatch):
    def run_in_guest(*_, **__):
        raise AgentError("sync takes longer than 60 s", None, "look there")

    monkeypatch.setattr(suspend, "_release", RELEASE)
    monkeypatch.setattr(suspend, "run_in_guest", run_in_guest)
    with pytest.raises(AgentError, match="takes longer"):
        suspend_machine(world.paths, NullProgress(), str)
    assert (world.driver.power, world.sleeper) == (DomainState.RUNNING, False)


@pytest.mark.parametrize("fault", [MachineError("machine box stands still"), KeyboardInterrupt()])
def test_one_that_stands_still_when_its_agent_is_back_has_no_sleeper_beside_it(world, monkeypatch, fault):
    """It would start the machine again after a power-off in the guest."""

    def ending():
        world.driver.power = DomainState.STALLED
        raise DriverError("the machine's memory could not be saved")

    def wait_awake(*_):
        raise fault

    world.driver.ending = ending
    monkeypatch.setattr(suspend, "wait_awake", wait_awake)
    with pytest.raises(type(fault)):
        suspend_machine(world.paths, NullProgress(), str)
    assert (world.agent, world.sleeper) == (True, False)


@pytest.mark.parametrize(
    "command",
    [
        lambda paths: suspend_machine(paths, NullProgress(), str),
        pause_machine,
        lambda paths: create_snapshot(paths, "now", NullProgress(), str),
    ],
    ids=["suspend", "pause", "snapshot"],
)
def test_one_that_stands_still_already_says_why_and_is_let_go_on_first_when_there_is_room(world, monkeypatch, command):
    """And not merely that it is stalled, or to be started."""

    def unpause():
        world.driver.power = DomainState.RUNNING
        raise DriverError("it runs")

    world.driver.power, world.driver.unpause = DomainState.STALLED, unpause
    monkeypatch.setattr(snapshots, "machine_driver", lambda *_: world.driver)
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=4096))
    with pytest.raises(MachineError, match="box stands still: this computer's disk is full"):
        command(world.paths)
    assert world.driver.power is DomainState.STALLED
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(free=1 << 40))
    with pytest.raises(DriverError, match="it runs"):
        command(world.paths)


@pytest.mark.parametrize(
    ("holds", "told"),
    [
        (("features", argparse.Namespace(name="qemu", saves_state=False, remote=False)), "saves no state"),
        (
            ("share", argparse.Namespace(kind="virtiofs", source="/s")),
            "virtiofs, whose daemon has state of its own: /s",
        ),
    ],
    ids=["hypervisor", "virtiofs"],
)
def test_what_will_be_in_the_way_a_while_later_too_is_told_apart(world, monkeypatch, holds, told):
    what, value = holds
    if what == "features":
        world.driver.features = value
    else:
        monkeypatch.setattr(suspend, "_domain", lambda _: argparse.Namespace(shares=(value,), disks=()))
    with pytest.raises(UnsavableError) as error:
        suspend_machine(world.paths, NullProgress(), str)
    assert told in error.value.details


def test_who_has_a_9p_folder_may_have_it_for_ever(world, monkeypatch):
    holder = {"container": "", "program": "vi", "pid": 7}
    monkeypatch.setattr(suspend, "_release", RELEASE)
    monkeypatch.setattr(suspend, "run_in_guest", lambda *_, **__: None)
    monkeypatch.setattr(suspend, "request", lambda *_, **__: {"holders": [holder]})
    monkeypatch.setattr(suspend, "missing_shares", lambda _: [])
    with pytest.raises(UnsavableError) as error:
        suspend_machine(world.paths, NullProgress(), str)
    assert error.value.details == "a folder shared by 9p is in use: program vi (7 in the guest) has it"


def test_why_it_was_paused_is_kept_until_it_is_paused_for_itself(world):
    pause_machine(world.paths, why="shared by virtiofs")
    assert paused_why(world.paths) == "shared by virtiofs"
    world.agent = True  # it has gone on
    pause_machine(world.paths)
    assert paused_why(world.paths) == ""
