"""The words that save and load a state, for QEMUs with mapped-ram and without, and what undoes them."""

from __future__ import annotations

import contextlib
import os

import pytest

from hostvm.drivers.qemu import driver, saving
from hostvm.drivers.qemu.qmp import QmpGoneError
from hostvm.drivers.qemu.saving import hypervisor_text, read_state, run_on, write_state
from hostvm.errors import DriverError

OLD, NEW = (7, 2, 22), (10, 0, 3)
MAPPED = ("migrate-set-capabilities", {"capabilities": [{"capability": "mapped-ram", "state": True}]})
FAST = ("migrate-set-parameters", {"max-bandwidth": 1 << 40})


class Monitor:
    """Remembers what it was told; answers `query-migrate` with the next of `statuses`."""

    def __init__(self, version, *statuses, refuse=None, runs=True, why="disk full"):
        self.version = version
        self.told = []
        self.descriptors = []
        self._statuses = list(statuses)
        self._refuse = refuse
        self._runs = runs
        self._why = why

    def execute(self, command, arguments=None, *, timeout=5.0, descriptor=None):
        if command == self._refuse:
            raise DriverError(f"QEMU refuses {command}", "GenericError: blocked", "x")
        if command == "query-status":
            return {"status": "running" if self._runs else "finish-migrate"}
        if command == "query-migrate":
            status = self._statuses.pop(0)
            if status == "gone":
                raise QmpGoneError("QEMU has ended", None, "x")
            return {"status": status, "error-desc": self._why} if status == "failed" else {"status": status}
        self.told.append((command, arguments))
        if descriptor is not None:
            self.descriptors.append(os.fstat(descriptor).st_ino)
        return {}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(saving.time, "sleep", lambda _: None)


def test_an_older_qemu_is_handed_the_open_file(tmp_path):
    target, committed = tmp_path / "ram", []
    qmp = Monitor(OLD, "active", "completed")
    write_state(qmp, target, committed.append)
    assert qmp.told == [("stop", None), FAST, ("getfd", {"fdname": "state"}), ("migrate", {"uri": "fd:state"})]
    assert qmp.descriptors == [target.stat().st_ino]
    assert target.stat().st_mode & 0o777 == 0o600
    assert committed == ["QEMU 7.2.22"]


def test_a_newer_qemu_maps_the_file(tmp_path):
    target, committed = tmp_path / "ram", []
    qmp = Monitor(NEW, "completed")
    write_state(qmp, target, committed.append)
    assert qmp.told == [("stop", None), FAST, MAPPED, ("migrate", {"uri": f"file:{target}"})]
    assert committed == ["QEMU 10.0.3"]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (OLD, [FAST, ("migrate-incoming", {"uri": "fd:9"})]),
        (NEW, [FAST, MAPPED, ("migrate-incoming", {"uri": "file:/m/ram"})]),
    ],
)
def test_loading(tmp_path, version, words):
    qmp = Monitor(version, "active", "completed")
    read_state(qmp, tmp_path.__class__("/m/ram"), 9)
    assert qmp.told == words


@pytest.mark.parametrize("statuses", [("active", "failed"), ("cancelled",)])
def test_a_save_that_fails_leaves_no_file_and_a_running_guest(tmp_path, statuses):
    target = tmp_path / "ram"
    qmp = Monitor(OLD, *statuses)
    with pytest.raises(DriverError, match="could not be saved"):
        write_state(qmp, target, lambda _: pytest.fail("committed"))
    assert not target.exists()
    assert qmp.told[-2:] == [("migrate_cancel", None), ("cont", None)]


def test_a_full_disk_of_this_computer_is_told_as_such(tmp_path):
    qmp = Monitor(OLD, "failed", why="Unable to write to file: No space left on device")
    with pytest.raises(DriverError, match="could not be saved") as caught:
        write_state(qmp, tmp_path / "ram", lambda _: None)
    assert caught.value.details.startswith("this computer's disk is full\nUnable to write")
    assert caught.value.resolution == f"free some space: df -h {tmp_path}\nthen run the same command again"


def test_what_blocks_a_save_is_told_in_qemus_words(tmp_path):
    qmp = Monitor(OLD, refuse="migrate")
    with pytest.raises(DriverError) as caught:
        write_state(qmp, tmp_path / "ram", lambda _: None)
    assert "blocked" in caught.value.details
    assert qmp.told[-1] == ("cont", None)


def test_a_commit_that_fails_undoes_the_save(tmp_path):
    def full(_):
        raise OSError("no room")

    target = tmp_path / "ram"
    qmp = Monitor(OLD, "completed")
    with pytest.raises(OSError, match="no room"):
        write_state(qmp, target, full)
    assert not target.exists()
    assert qmp.told[-1] == ("cont", None)


def test_a_qemu_that_dies_meanwhile_is_told_as_such(tmp_path):
    qmp = Monitor(OLD, "active", "gone", refuse="cont")
    with pytest.raises(QmpGoneError):
        write_state(qmp, tmp_path / "ram", lambda _: pytest.fail("committed"))
    assert not (tmp_path / "ram").exists()


def test_a_guest_that_does_not_run_on_is_told(monkeypatch):
    moments = iter([0.0, 1.0, 100.0])
    monkeypatch.setattr(saving.time, "monotonic", lambda: next(moments))
    with pytest.raises(DriverError, match="does not run on"):
        run_on(Monitor(OLD, runs=False))


def test_and_is_the_one_that_is_to_be_stopped(monkeypatch, tmp_path):
    """Not the default machine, which is what `hostvm stop --force` stops."""
    moments = iter([0.0, 1.0, 100.0])
    monkeypatch.setattr(saving.time, "monotonic", lambda: next(moments))
    monitor = contextlib.nullcontext(Monitor(OLD, runs=False))
    monkeypatch.setattr(driver.Qmp, "connect", lambda *_: monitor)
    with pytest.raises(DriverError, match="does not run on") as caught:
        driver.QemuDriver("ci", "u", tmp_path).unpause()
    assert caught.value.resolution == "hostvm -m ci stop --force"


def test_versions_are_named_whole():
    assert hypervisor_text((9, 0, 1)) == "QEMU 9.0.1"
