"""A machine that stands still for want of room: what is told, and when it is let go on."""

from __future__ import annotations

from collections import namedtuple

import pytest

from hostvm.drivers.base import DomainState
from hostvm.errors import DriverError, MachineError
from hostvm.machines import stalled as module
from hostvm.machines.stalled import ROOM, let_go_on, watcher
from hostvm.paths import MachinePaths

Usage = namedtuple("Usage", "free")  # noqa: PYI024 - as shutil's own


class Driver:
    def __init__(self):
        self.now, self.fault = DomainState.STALLED, None

    def state(self):
        return self.now

    def unpause(self):
        if self.fault:
            raise self.fault
        self.now = DomainState.RUNNING


@pytest.fixture
def paths(tmp_path):
    return MachinePaths("box", tmp_path, tmp_path / "run")


@pytest.fixture
def free(monkeypatch):
    """Sets the room on this computer's disk."""

    def to(size):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(size))

    return to


def test_it_goes_on_when_there_is_room_and_not_before(paths, free):
    driver = Driver()
    look = watcher(paths, driver)
    free(ROOM - 1)
    told = look()
    assert told.brief == "machine box stands still: this computer's disk is full"
    assert str(paths.folder) in told.details
    assert "hostvm stop --force box" in told.resolution
    assert driver.now is DomainState.STALLED
    with pytest.raises(MachineError, match="disk is full"):
        let_go_on(paths, driver)
    free(ROOM)
    assert look() is None
    assert driver.now is DomainState.RUNNING


def test_one_that_runs_is_left_alone_though_the_disk_is_full(paths, free):
    driver = Driver()
    driver.now = DomainState.RUNNING
    free(0)
    assert watcher(paths, driver)() is None


def test_a_disk_that_fails_for_another_reason_is_told_as_such(paths, free):
    driver = Driver()
    driver.fault = DriverError("the machine does not run on", "QEMU says: io-error", "hostvm stop --force")
    free(ROOM)
    told = watcher(paths, driver)()
    assert "its disk cannot be written" in told.brief
    assert "io-error" in told.details


@pytest.mark.parametrize(
    "error",
    [DriverError("QEMU does not answer", "its monitor is silent", "hostvm status"), ConnectionRefusedError("refused")],
)
def test_a_hypervisor_that_does_not_answer_says_nothing_of_the_disk(paths, free, error):
    driver = Driver()

    def silent():
        raise error

    driver.state = silent
    free(0)
    assert watcher(paths, driver)() is None


def test_a_disk_on_a_drive_that_was_unplugged_is_told(tmp_path):
    """By `hostvm ls`, too, which looks at all machines."""
    gone = MachinePaths("box", tmp_path / "unplugged", tmp_path / "run")
    driver = Driver()
    with pytest.raises(MachineError, match="stands still: its disk is not there") as caught:
        let_go_on(gone, driver)
    assert str(gone.folder) in caught.value.details
    assert driver.now is DomainState.STALLED
    assert "hostvm stop --force box" in watcher(gone, driver)().resolution
