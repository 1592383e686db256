"""QEMU's life, of a program that is none."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace

import pytest

from hostvm import process, process_id
from hostvm.drivers.qemu import driver
from hostvm.process_id import ProcessId

BORN = ProcessId(4711, 1.0)


@pytest.mark.skipif(sys.platform == "win32", reason="a signal that is raised there ends Python")
def test_a_ctrl_c_in_the_instant_of_its_birth_leaves_no_qemu(monkeypatch, tmp_path):
    """Its pid file was removed while it ran on, with the machine's disk open, and no command found it any more."""
    killed = []

    def spawn(*_, **__):
        signal.raise_signal(signal.SIGINT)
        return BORN

    monkeypatch.setattr(process, "spawn_detached", spawn)
    monkeypatch.setattr(process_id, "kill", killed.append)
    monkeypatch.setattr(driver, "_facts", lambda *_: None)
    monkeypatch.setattr(driver, "build_argv", lambda *_: ["qemu"])
    with pytest.raises(KeyboardInterrupt):
        driver.QemuDriver("box", "u", tmp_path / "run").start(SimpleNamespace(console=tmp_path / "console", shares=()))
    assert killed == [BORN]
