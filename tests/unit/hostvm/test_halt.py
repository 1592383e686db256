"""A machine that does not let itself be asked: its power is cut."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hostvm.drivers.base import DomainState
from hostvm.drivers.qemu import driver as qemu
from hostvm.drivers.qemu import unix_socket
from hostvm.drivers.qemu.argv import QMP_SOCKET
from hostvm.errors import AgentError, DriverError, MachineError
from hostvm.machines import halt
from hostvm.machines import open as opened
from hostvm.machines.halt import stop_machine
from hostvm.machines.remove import remove_machine
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import MachineSpec, render_spec
from hostvm.state import MachineState, load_state, save_state
from images.progress import NullProgress


@pytest.fixture
def paths():
    made = MachinePaths.of("box")
    made.folder.mkdir(parents=True)
    made.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=())))
    save_state(made, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False))
    return made


@pytest.mark.parametrize("fault", [DriverError("QEMU's monitor does not answer"), OSError("gone")])
def test_a_button_that_cannot_be_pressed_leads_to_a_power_cut(paths, monkeypatch, fault):
    done = []

    def powerdown():
        raise fault

    def no_agent(*_, **__):
        raise AgentError("no agent")

    driver = SimpleNamespace(
        state=lambda: DomainState.RUNNING,
        powerdown=powerdown,
        wait_off=lambda _: False,
        kill=lambda: done.append("kill"),
    )
    monkeypatch.setattr(halt, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(halt, "run_in_guest", no_agent)
    monkeypatch.setattr(halt, "ACPI_SECONDS", 0)
    assert stop_machine(paths, NullProgress())
    assert done == ["kill"]
    assert load_state(paths).wanted_off


@pytest.mark.parametrize("force", [False, True])
def test_one_that_runs_unseen_is_not_called_stopped(paths, monkeypatch, force):
    def in_use(_):
        raise MachineError("the disk of machine box is in use by another process")

    paths.data_disk.touch()
    monkeypatch.setattr(opened, "require_unused", in_use)
    with pytest.raises(MachineError, match="in use by another process"):
        stop_machine(paths, NullProgress(), force=force)
    assert not load_state(paths).wanted_off


@pytest.fixture
def elsewhere(paths, monkeypatch):
    """The machine runs with libvirt's system, which its settings name; each look elsewhere finds nothing."""
    text = render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=(), libvirt_uri="qemu:///system"))
    paths.spec.write_text(text)
    paths.make_run_dir()
    paths.booted_spec.write_text(text)
    power = {"qemu:///system": DomainState.RUNNING}

    def open_driver(_, *, uri, **__):
        def kill():
            power.pop(uri, None)

        return SimpleNamespace(state=lambda: power.get(uri, DomainState.OFF), kill=kill)

    monkeypatch.setattr(opened, "open_driver", open_driver)
    return power


@pytest.mark.parametrize("text", [None, "cpus: [", "cpus: 0\n"])
def test_the_power_of_a_machine_with_a_libvirt_of_its_own_is_cut_there(paths, elsewhere, text):
    """It ran on, and was told as stopped; with damaged settings it is where it was started."""
    if text is not None:
        paths.spec.write_text(text)
    assert stop_machine(paths, NullProgress(), force=True)
    assert elsewhere == {}


def test_one_that_runs_there_is_not_removed_as_one_that_is_off(paths, elsewhere):
    with pytest.raises(MachineError, match="machine box is running"):
        remove_machine(paths, NullProgress())
    assert paths.folder.exists()
    remove_machine(paths, NullProgress(), force=True)
    assert elsewhere == {}


def test_power_is_cut_though_nobody_knows_the_settings(paths, monkeypatch):
    done = []
    driver = SimpleNamespace(state=lambda: DomainState.RUNNING, kill=lambda: done.append("kill"))
    monkeypatch.setattr(opened, "open_driver", lambda *_, **__: driver)
    paths.spec.write_text("cpus: [")
    assert stop_machine(paths, NullProgress(), force=True)
    assert done == ["kill"]


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
def test_a_monitor_that_accepts_and_does_not_answer_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(qemu, "ANSWER_TIMEOUT", 0.05)
    with unix_socket.listen(tmp_path / QMP_SOCKET):
        qemu.QemuDriver("box", "u", tmp_path).powerdown()
