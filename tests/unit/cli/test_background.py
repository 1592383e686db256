"""What becomes of an idle machine that cannot be suspended; real guests: tests/e2e/test_idle.py."""

from __future__ import annotations

import pytest

from cli import background, held
from hostvm.errors import DriverError, MachineError
from hostvm.machines import suspend
from hostvm.machines.asleep import InUseError
from hostvm.machines.suspend import UnsavableError
from hostvm.paths import MachinePaths
from hostvm.sizes import GIB
from hostvm.spec import IdleSettings, MachineSpec, render_spec

WHY = "shared by virtiofs, whose daemon has state of its own: /home"


@pytest.fixture
def nap(monkeypatch, capsys):
    """Lets an idle machine sleep while suspending fails; gives the naps in place and what the log is told."""
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.make_run_dir()
    idle = IdleSettings(7, "suspend")
    paths.spec.write_text(render_spec(MachineSpec(cpus=1, memory=GIB, disk=10 * GIB, mounts=(), idle=idle)))
    paused = []

    def pause_machine(paths, *, after, why):
        paused.append((after, why))
        paths.paused_why.write_text(why)

    def fall_asleep(fault):
        def refuse(*_, **__):
            raise fault

        monkeypatch.setattr(held, "suspend", refuse)
        paused.clear()
        status = background.main(["sleep", "box"])
        return status, list(paused), capsys.readouterr().err

    monkeypatch.setattr(suspend, "pause_machine", pause_machine)
    return fall_asleep


def test_it_is_paused_and_the_log_is_told_once_of_each_reason(nap):
    refused = UnsavableError("machine box cannot be suspended as it is", WHY, "hostvm stop box")
    status, paused, told = nap(refused)
    assert (status, paused) == (0, [(7.0, WHY)])
    assert told.endswith(f" idle: machine box is paused, as it cannot be suspended: {WHY}\n")
    assert nap(refused) == (0, [(7.0, WHY)], "")
    status, paused, told = nap(UnsavableError("machine box cannot be suspended as it is", "one\ntwo"))
    assert paused == [(7.0, "one; two")]
    assert "one; two" in told


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (MachineError("machine box cannot be suspended as it is", "this computer's disk is full"), "it stays awake"),
        (InUseError("machine box is in use"), "in use after all"),
        (DriverError("QEMU does not answer"), "QEMU does not answer"),
    ],
)
def test_what_may_be_otherwise_a_while_later_leaves_it_awake(nap, fault, told):
    _, paused, said = nap(fault)
    assert paused == []
    assert told in said
