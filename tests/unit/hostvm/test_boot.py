"""In which order a start does what others look at; machines are started for real in tests/e2e."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, MachineError, PortTaken, SshError
from hostvm.machines import boot
from hostvm.machines.change import booted_spec, note_booted
from hostvm.paths import MachinePaths
from hostvm.shares.model import Mount
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress

if TYPE_CHECKING:
    from pathlib import Path

SPEC = MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=(Mount("/new", "/new"),))
ENGINE = SimpleNamespace(socket="", seed=lambda *_: {})


@dataclass
class Domain:
    """What of one a start looks at."""

    data_disk: Path
    disks: tuple = ()
    ssh_port: int = 0


@pytest.fixture
def box(monkeypatch):
    """A machine that is off, and was started with other folders before."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.make_run_dir()
    paths.spec.write_text(render_spec(SPEC))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now"))
    note_booted(paths, replace(SPEC, mounts=(Mount("/old", "/old"),)))
    features = SimpleNamespace(remote=False, saves_state=False)
    driver = SimpleNamespace(
        state=lambda: DomainState.OFF, kill=lambda: None, has_crashed=lambda: False, features=features
    )
    monkeypatch.setattr(boot, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(boot, "begin_check", lambda *_: lambda: None)
    monkeypatch.setattr(boot, "port_is_free", lambda _: True)
    monkeypatch.setattr(boot, "make_domain", lambda *_, **__: Domain(paths.data_disk))
    for name in ("machine_image", "grow_disk", "check_disk", "end_agent"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    return SimpleNamespace(paths=paths, driver=driver)


def test_an_agent_that_is_quicker_than_the_hypervisor_finds_the_folders_of_this_boot(box, monkeypatch):
    found = []
    monkeypatch.setattr(boot, "spawn_agent", lambda _: found.append(booted_spec(box.paths).mounts))

    def start(_):
        raise DriverError("far enough")

    box.driver.start = start
    with pytest.raises(DriverError, match="far enough"):
        boot.start_machine(box.paths, NullProgress(), ENGINE)
    assert found == [SPEC.mounts]


@pytest.mark.parametrize("crashes", [0, 1, 2])
@pytest.mark.parametrize("where", ["power on", "wait"])
def test_a_start_begins_anew_once_when_the_hypervisor_crashed(box, monkeypatch, crashes, where):
    """Wherever it is noticed; each time from its power-on, with an agent of its own."""
    done, left = [], [crashes]

    def crash(*_):
        if left[0]:
            left[0] -= 1
            raise DriverError("it went away")

    def start(_):
        done.append("start")
        if where == "power on":
            crash()

    box.driver.start, box.driver.has_crashed = start, lambda: True
    box.driver.kill = lambda: done.append("kill")
    monkeypatch.setattr(boot, "spawn_agent", lambda _: done.append("agent"))
    monkeypatch.setattr(boot, "wait_ready", crash if where == "wait" else lambda *_: None)
    monkeypatch.setattr(boot, "is_reachable", lambda _: False)
    for name in ("take_back", "_see_shares", "keep_proven"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    once = ["kill", "agent", "start"]
    if crashes < 2:
        assert boot.start_machine(box.paths, NullProgress(), ENGINE) is not None
        assert done == once + ["kill", *once] * crashes
    else:
        with pytest.raises(DriverError, match="it went away"):
            boot.start_machine(box.paths, NullProgress(), ENGINE)
        assert done == [*once, "kill", *once, "kill"]


def test_one_that_runs_still_after_a_stop_that_was_killed_is_wanted_on_again(box, monkeypatch):
    """Its guest had been asked: it goes down behind the start, and the next docker command is to start it."""
    box.driver.state = lambda: DomainState.RUNNING
    assert load_state(box.paths).wanted_off
    monkeypatch.setattr(boot, "agent_is_ready", lambda _: True)
    for name in ("take_back", "_see_shares", "keep_proven"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    assert boot.start_machine(box.paths, NullProgress(), ENGINE) is None
    assert not load_state(box.paths).wanted_off


@pytest.mark.parametrize(("facts", "done"), [({"leaving": True}, ["end", "spawn"]), ({}, ["spawn"]), (None, ["spawn"])])
def test_an_agent_that_a_killed_stop_left_taking_nothing_new_is_replaced(box, monkeypatch, facts, done):
    """It would refuse each command, as of a machine that is being put to sleep, for as long as that runs."""
    said = []
    box.driver.state = lambda: DomainState.RUNNING
    monkeypatch.setattr(boot, "agent_status", lambda _: facts)
    monkeypatch.setattr(boot, "agent_is_ready", lambda _: False)
    monkeypatch.setattr(boot, "end_agent", lambda _: said.append("end"))
    monkeypatch.setattr(boot, "spawn_agent", lambda _: said.append("spawn"))
    for name in ("wait_ready", "take_back", "_see_shares"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    assert boot.start_machine(box.paths, NullProgress(), ENGINE) is not None
    assert said == done


@pytest.mark.parametrize(("power", "told"), [(DomainState.OFF, "did not start"), (DomainState.RUNNING, "stands still")])
def test_a_start_whose_machine_stands_still_since_this_computers_disk_is_full_says_so(box, monkeypatch, power, told):
    """And not that its guest does not answer. What it powered on is powered off again."""
    done = []

    def silent(*_):
        box.driver.state = lambda: DomainState.STALLED
        raise SshError("the connection was lost while the engine started")

    box.driver.state, box.driver.kill, box.driver.start = lambda: power, lambda: done.append("kill"), done.append
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    monkeypatch.setattr(boot, "wait_ready", silent)
    for name in ("agent_status", "agent_is_ready", "spawn_agent"):
        monkeypatch.setattr(boot, name, lambda _: None)
    with pytest.raises(MachineError, match=f"box {told}: this computer's disk is full"):
        boot.start_machine(box.paths, NullProgress(), ENGINE)
    assert done[-1:] == (["kill"] if power is DomainState.OFF else [])


@pytest.mark.parametrize("times", [1, 4, 5])
def test_a_port_that_is_taken_between_choice_and_use_is_chosen_anew(box, monkeypatch, times):
    """Each agent is told of the port that its machine has; one of a try that failed is ended."""
    taken, done, told = [], [], []

    def start(domain):
        done.append(("start", domain.ssh_port))
        if len(taken) < times:
            taken.append(domain.ssh_port)
            raise PortTaken(f"port {domain.ssh_port} of this computer is taken")

    box.driver.start = start
    numbers = iter(range(40001, 40010))
    monkeypatch.setattr(boot, "port_is_free", lambda port: port not in taken)
    monkeypatch.setattr(boot, "free_port", lambda: next(numbers))
    monkeypatch.setattr(boot, "spawn_agent", lambda config: done.append(("agent", config.ssh_port)))
    monkeypatch.setattr(boot, "wait_ready", lambda *_: None)
    for name in ("take_back", "_see_shares", "keep_proven"):
        monkeypatch.setattr(boot, name, lambda *_: None)
    monkeypatch.setattr(boot, "end_agent", lambda _: done.append(("end", 0)))
    progress = NullProgress()
    progress.note = told.append
    ports = [1, *range(40001, 40005)]
    tries = [step for port in ports[: min(times + 1, 5)] for step in (("agent", port), ("start", port), ("end", 0))]
    if times < 5:
        assert boot.start_machine(box.paths, progress, ENGINE) is not None
        assert done == [("end", 0), *tries[:-1]]
        assert load_state(box.paths).ssh_port == ports[times]
    else:
        with pytest.raises(DriverError, match="box finds no free port for ssh") as error:
            boot.start_machine(box.paths, progress, ENGINE)
        assert error.value.resolution == "try again: hostvm start box"
        assert done[: len(tries) + 1] == [("end", 0), *tries]
    assert told[0] == "port 1 is taken by another program; machine box now has 40001"
    assert len(told) == min(times, 4)


@pytest.mark.parametrize(("on_panic", "refused"), [("stop", True), ("restart", False)])
def test_a_machine_that_its_kernel_s_panic_was_to_stop_is_not_started_by_a_command(box, on_panic, refused):
    """One that boots anew by itself may be looked at in the midst of that."""
    box.paths.spec.write_text(render_spec(replace(SPEC, mounts=(), on_panic=on_panic)))
    save_state(box.paths, replace(load_state(box.paths), wanted_off=False))
    boot.require_startable(box.paths)
    box.paths.console.write_text("it began\n[ 9.1] Kernel panic - not syncing: one\n")
    if not refused:
        boot.require_startable(box.paths)
        return
    with pytest.raises(MachineError, match="box is stopped") as error:
        boot.require_startable(box.paths)
    assert error.value.details.startswith("its kernel panicked: one\n")
    assert "it began" in error.value.details
    assert error.value.resolution == "start it with: hostvm start box"
