"""What is made of a probe's guest, which a QEMU played here runs."""

from __future__ import annotations

import pytest

from hostvm.accel import probe as module
from hostvm.accel.probe_init import MARK
from hostvm.drivers.qemu.qmp import QmpGoneError
from hostvm.errors import DriverError


class Child:
    """Runs until it is waited for."""

    def poll(self):
        return None

    def wait(self, timeout):
        return 0


@pytest.fixture
def qemu(monkeypatch, tmp_path):
    """One that takes so many seconds until its monitor greets."""

    def play(seconds, console=""):
        def connect(path, timeout=2.0):
            if timeout < seconds:
                (tmp_path / "console").write_text(console)
                raise DriverError("QEMU's monitor does not answer", "another program may hold it", "")
            (tmp_path / "console").write_text(MARK)
            raise QmpGoneError("QEMU has ended", "", "")

        monkeypatch.setattr(module.Qmp, "connect", connect)
        return module._watch(Child(), tmp_path)

    return play


def test_a_qemu_that_a_busy_computer_is_slow_to_begin_is_waited_for(qemu):
    """Or its accelerator would be taken for broken until the computer's next start."""
    assert qemu(5) is None


def test_a_kernel_that_came_up_proves_it_whatever_the_monitor_does(qemu):
    assert qemu(60, console=MARK) is None


def test_a_monitor_that_is_silent_all_the_time_is_told(qemu):
    assert qemu(60) == "QEMU's monitor failed: another program may hold it"


@pytest.mark.parametrize("before", [[], ["prelaunch", "running"]], ids=["before anybody listens", "meanwhile"])
def test_a_cpu_that_died_is_told_whether_or_not_an_event_was(monkeypatch, tmp_path, before):
    """A broken /dev/kvm kills it within milliseconds; then ten seconds passed, and nothing was known of why."""
    states = iter(before)

    class Monitor:
        def execute(self, command, *, timeout=5.0):
            assert command == "query-status"
            return {"status": next(states, "internal-error")}

        def wait_event(self, names, timeout):
            return None

        def close(self):
            pass

    monkeypatch.setattr(module, "PROBE_TIMEOUT", 1.0)
    monkeypatch.setattr(module.Qmp, "connect", lambda *_: Monitor())
    assert module._watch(Child(), tmp_path) == "the virtual CPU died (internal-error)"
