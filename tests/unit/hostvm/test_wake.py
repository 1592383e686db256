"""What is looked at before a saved machine goes on."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostvm import state
from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, DriverGone, DriverTimeout, MachineError, PortTaken
from hostvm.machines import wake
from hostvm.machines.saved import digest
from hostvm.paths import MachinePaths
from hostvm.shares.device import DeviceShare
from hostvm.shares.model import Mount
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes rights there")
@pytest.mark.parametrize("booted", ["all", "the outer one", None])
def test_a_device_whose_path_a_container_may_have_changed_does_not_go_on(tmp_path, monkeypatch, booted):
    """The hypervisor would open what the link leads to, whatever is still said of the folder."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/inner").symlink_to("/etc")
    outer, inner = Mount(str(tmp_path / "outer"), "/a"), Mount(str(tmp_path / "outer/inner"), "/b", kind="9p")
    said = {"all": (outer, inner), "the outer one": (outer,), None: ()}[booted]
    monkeypatch.setattr(wake, "booted_spec", lambda _: SimpleNamespace(mounts=said) if booted else None)
    monkeypatch.setattr(wake, "load_spec", lambda _: SimpleNamespace(mounts=() if booted else (outer,)))
    paths = MachinePaths("box", tmp_path / "box", tmp_path / "run")
    devices = [
        DeviceShare("9p", f"share{n}", Path(one.source), one.target, False) for n, one in enumerate((outer, inner))
    ]
    wake._check_sources(paths, SimpleNamespace(shares=devices[:1]))
    with pytest.raises(MachineError) as caught:
        wake._check_sources(paths, SimpleNamespace(shares=devices[1:]))
    assert "leads through a link in" in caught.value.details
    assert "--discard-state" in caught.value.resolution
    named = SimpleNamespace(mounts=(outer, replace(inner, leads_to="/etc")))
    monkeypatch.setattr(wake, "booted_spec", lambda _: named)
    wake._check_sources(paths, SimpleNamespace(shares=devices))


class Paused:
    """The driver of a machine that stands still."""

    features = SimpleNamespace(remote=False)

    def __init__(self):
        self.done = []

    def state(self):
        return DomainState.PAUSED

    def kill(self):
        self.done.append("kill")


@pytest.mark.parametrize(
    ("no_way", "remote", "done"), [(True, False, "kill"), (False, False, "go"), (True, True, "go")]
)
def test_a_paused_machine_into_which_no_way_leads_is_half_of_a_start(tmp_path, monkeypatch, no_way, remote, done):
    """libvirt makes the way after the domain: it, or the command, may be killed in between."""
    driver = Paused()
    driver.features = SimpleNamespace(remote=remote)
    monkeypatch.setattr(wake, "load_state", lambda _: SimpleNamespace(ssh_port=2222))
    monkeypatch.setattr(wake, "port_is_free", lambda port: no_way and port == 2222)
    monkeypatch.setattr(wake, "_unpause", lambda *_: driver.done.append("go"))
    monkeypatch.setattr(wake, "wait_awake", lambda *_: None)
    (tmp_path / "box").mkdir()
    woken = wake.wake_machine(MachinePaths("box", tmp_path / "box", tmp_path / "run"), driver, NullProgress())
    assert (woken, driver.done) == (done == "go", [done])


def test_a_machine_goes_on_though_this_computers_disk_is_full(monkeypatch):
    """Nothing has to be written for it but that its user wants it to run, where that is news."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    made = MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False)
    save_state(paths, made)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wake, "wait_ready", lambda *_: None)
    monkeypatch.setattr(state, "write_atomic", full)
    wake.wait_awake(paths, NullProgress())
    with pytest.raises(OSError, match="No space left"):
        save_state(paths, replace(made, wanted_off=True))


def test_memory_that_cannot_be_removed_is_no_failure_and_no_traceback(monkeypatch):
    paths = MachinePaths.of("box")
    paths.suspended_ram.mkdir(parents=True)  # which unlink() refuses
    paths.suspended.write_text("{}")
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    for name in ("load_saved", "_resume", "wait_awake"):
        monkeypatch.setattr(wake, name, lambda *_: None)
    driver = SimpleNamespace(state=lambda: DomainState.OFF, kill=lambda: None)
    assert wake.wake_machine(paths, driver, NullProgress())
    assert said == []


@pytest.mark.parametrize("asked", ["what would load it", "the load"])
def test_of_a_hypervisor_that_is_silent_it_is_not_said_that_the_memory_is_to_be_given_up(monkeypatch, asked):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.suspended_ram.write_bytes(b"ram")
    saved = SimpleNamespace(domain={}, ram={"size": 3, "sum": digest(paths.suspended_ram)}, hypervisor="Q", board=[])
    error = DriverTimeout("libvirt at x does not answer", "no answer within 600 s", "virsh -c x version")

    def fail(*_):
        raise error

    driver = SimpleNamespace(hypervisor=fail, restore=fail)
    monkeypatch.setattr(wake, "domain_of", lambda _: None)
    monkeypatch.setattr(wake, "same_domain", lambda *_: None)

    def ask():
        if asked == "the load":
            wake._restore(paths, driver, None, saved)
        else:
            wake._checked_domain(paths, None, driver, saved, NullProgress())

    with pytest.raises(DriverTimeout) as caught:
        ask()
    assert caught.value is error
    error = DriverGone("libvirt at x ended meanwhile", "End of file", "the same again")
    with pytest.raises(DriverGone) as caught:
        ask()
    assert caught.value is error
    error = DriverError("libvirt refuses", "why", "virsh")
    with pytest.raises(MachineError, match="cannot be resumed"):
        ask()


@pytest.mark.parametrize("times", [1, 5])
def test_a_port_that_is_taken_between_choice_and_use_is_chosen_anew(monkeypatch, times):
    """The saved memory is there as long as nothing has been made of it."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False))
    taken, done, told = [], [], []

    @dataclass
    class Domain:
        ssh_port: int = 0
        shares: tuple = ()

    def restore(_paths, _driver, domain, _saved):
        done.append(("restore", domain.ssh_port))
        if len(taken) < times:
            taken.append(domain.ssh_port)
            raise PortTaken(f"port {domain.ssh_port} of this computer is taken")

    numbers = iter(range(40001, 40010))
    for name, does in {
        "require_image_of_memory": lambda *_: None,
        "_checked_domain": lambda *_: Domain(),
        "store_devices": lambda *_: None,
        "store_domain": lambda *_: None,
        "port_is_free": lambda port: port not in taken,
        "free_port": lambda: next(numbers),
        "spawn_agent": lambda config: done.append(("agent", config.ssh_port)),
        "end_agent": lambda _: done.append(("end", 0)),
        "may_appear": lambda _: True,
        "_restore": restore,
    }.items():
        monkeypatch.setattr(wake, name, does)
    progress = NullProgress()
    progress.note = told.append
    saved = SimpleNamespace(share_server=None, engine_socket="", env={})
    tries = [[("end", 0), ("agent", port), ("restore", port), ("end", 0)] for port in (1, 40001, 40002, 40003, 40004)]
    if times == 1:
        wake._resume(paths, None, saved, progress)
        assert done == [*tries[0], *tries[1][:-1]], "the agent of the last one stays"
        assert load_state(paths).ssh_port == 40001
        assert told == ["port 1 is taken by another program; machine box now has 40001"]
    else:
        with pytest.raises(DriverError, match="box finds no free port for ssh"):
            wake._resume(paths, None, saved, progress)
        assert done == [step for one in tries for step in one]
