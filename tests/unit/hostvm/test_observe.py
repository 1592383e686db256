"""What `hostvm status` says of what a machine's agent tells."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cli.commands import look
from hostvm.drivers.base import DomainState
from hostvm.machines import observe
from hostvm.machines.observe import Observation
from hostvm.paths import MachinePaths
from hostvm.spec import default_spec
from hostvm.state import MachineState, save_state


@pytest.mark.parametrize("why", ["none of arm64: the mirror is not reached", ""])
def test_an_emulator_that_could_not_be_brought_is_told(why):
    seen = Observation(MachinePaths.of("box"), agent={"services": {"emulators": {"arch": "arm64", "why": why}}})
    assert dict(seen.lines()).get("emulators", "") == why


def test_a_machine_that_goes_while_all_are_looked_at_is_no_broken_one(monkeypatch):
    MachinePaths.of("box").folder.mkdir(parents=True)
    monkeypatch.setattr(observe, "machine_names", lambda: ["box", "tmp-0123456789ab"])
    assert [(seen.name, seen.status) for seen in observe.observe_all()] == [("box", "broken")]


@pytest.mark.parametrize(("status", "told"), [("starting", True), ("running", False), ("paused", False)])
def test_a_guest_whose_ssh_server_is_silent_is_told_with_what_helps(status, told):
    """One that is paused has none that could answer."""
    seen = Observation(MachinePaths.of("box"), status, agent={"silent_since": "2026-12-01 12:00:00"})
    words = "it runs, but its ssh server has not answered since 2026-12-01 12:00:00"
    assert seen.silent == (words if told else "")
    assert dict(seen.lines()).get("guest") == (f"{words}: hostvm restart box" if told else None)


@pytest.mark.parametrize(("power", "agent"), [("paused", None), ("paused", {"pid": 1}), ("running", {"pid": 1})])
def test_why_a_machine_is_paused_and_not_suspended_is_told_while_it_is(monkeypatch, power, agent):
    """One that is paused and has an agent was paused by others."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.make_run_dir()
    paths.paused_why.write_text("shared by virtiofs: /s")
    save_state(paths, MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now", wanted_off=False))
    driver = SimpleNamespace(state=lambda: DomainState(power))
    monkeypatch.setattr(observe, "machine_driver", lambda *_: driver)
    monkeypatch.setattr(observe, "agent_status", lambda _: agent)
    monkeypatch.setattr(observe, "sleeper_status", lambda _: None)
    seen = observe.observe(paths)
    told = agent is None
    assert seen.facts()["paused_why"] == ("shared by virtiofs: /s" if told else None)
    assert dict(seen.lines()).get("paused", "").endswith("shared by virtiofs: /s") == told
    assert look._row(seen)[1] == ("paused,unsaved" if told else seen.status)


@pytest.mark.parametrize(("booted", "told"), [("", "panicked: one; it is off"), ("hostvm-guest: mark root 1\n", None)])
def test_a_machine_that_is_off_since_its_kernel_panicked_says_so(booted, told):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.console.write_text(f"[ 9.1] Kernel panic - not syncing: one\n{booted}")
    state = MachineState("u", "m", "amd64", 1, "qemu", "sha256:0", "now")
    seen = observe.look_closely(Observation(paths, "stopped", default_spec(), state))
    assert seen.panics == (("one",) if told else ())
    assert dict(seen.lines()).get("kernel") == (f"{told}. See: hostvm logs --console box" if told else None)
