from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from hostvm import process_id
from hostvm.process_id import ProcessId


def test_this_process_is_identified():
    own = process_id.identify(os.getpid())
    assert own is not None
    assert process_id.is_alive(own)
    assert not process_id.wait_gone(own, 0)
    assert process_id.command_of(os.getpid())


def test_a_later_process_of_the_same_number_is_another_one():
    own = process_id.identify(os.getpid())
    assert own is not None
    earlier = ProcessId(own.pid, own.started - 1)
    assert not process_id.is_alive(earlier)
    assert process_id.wait_gone(earlier, 0)
    assert process_id.kill(earlier)


def test_a_process_of_another_boot_with_the_same_number_and_start_is_another_one(monkeypatch):
    own = process_id.identify(os.getpid())
    assert own is not None
    kept = ProcessId.of(json.loads(json.dumps(own.facts())))
    assert kept == own
    assert process_id.is_alive(kept)
    monkeypatch.setattr(process_id, "linux_boot", lambda: "the next boot")
    if sys.platform == "linux":
        assert not process_id.is_alive(kept)
        assert process_id.wait_gone(kept, 0)
        assert process_id.kill(kept), "nothing is to be killed"
    before = ProcessId.of([float(own.pid), own.started])
    assert process_id.is_alive(before), "what an older hostvm wrote says nothing of the boot"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a start's time is absolute")
def test_the_boot_is_part_of_who_a_process_is():
    own = process_id.identify(os.getpid())
    assert own is not None
    assert own.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Mac:
    """psutil's process of macOS: what it tells moves when the clock is set; `raw` is what the kernel keeps."""

    raw, moved = 1_700_000_000.25, -86_400.0

    def __init__(self, pid):
        self.pid = pid
        self._proc = SimpleNamespace(create_time=lambda *, monotonic=False: self.raw + (0 if monotonic else self.moved))

    def create_time(self):
        return self._proc.create_time()

    def status(self):
        return psutil.STATUS_RUNNING


class MacBefore(Mac):
    """Of psutil 7.0 and earlier ones, which tell what the kernel keeps."""

    def __init__(self, pid):
        super().__init__(pid)
        self._proc = SimpleNamespace(create_time=lambda: self.raw)


@pytest.mark.parametrize("told", [Mac, MacBefore])
def test_a_clock_that_is_set_makes_nobody_another_process(monkeypatch, told):
    monkeypatch.setattr(process_id.sys, "platform", "darwin")
    monkeypatch.setattr(psutil, "Process", told)
    assert process_id.identify(7) == ProcessId(7, Mac.raw)
    assert process_id.is_alive(ProcessId.of([7, Mac.raw, ""]))
    assert not process_id.is_alive(ProcessId.of([7, Mac.raw + Mac.moved]))


@pytest.mark.parametrize("facts", [[], [1], [1, "x"], [1, 2, "a", "b"], None, 5, [None, 1]])
def test_what_is_no_process(facts):
    with pytest.raises((ValueError, TypeError)):
        ProcessId.of(facts)


@pytest.mark.parametrize("pid", [2**22 + 1, 999_999_999])
def test_no_process(pid):
    assert process_id.identify(pid) is None
    assert process_id.command_of(pid) == ()
    assert process_id.wait_gone(ProcessId(pid, 1.0), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are always looked at")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS, errno.EPERM])
def test_an_end_is_waited_for_though_linux_does_not_tell_of_it(monkeypatch, number):
    """For want of descriptors, on an older kernel, in a container: a guest's QEMU was killed at once."""
    looks = []

    def refuse(_):
        raise OSError(number, os.strerror(number))

    def is_alive(_):
        looks.append("")
        return len(looks) < 3

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(process_id, "is_alive", is_alive)
    assert process_id.wait_gone(ProcessId(os.getpid(), 1.0), 60.0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is opened for it")
def test_a_process_is_not_gone_for_want_of_descriptors(monkeypatch):
    def refuse(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(process_id, "_stat_fields", refuse)
    for ask in (process_id.is_alive, lambda own: process_id.wait_gone(own, 0)):
        with pytest.raises(OSError, match="Too many open files"):
            ask(ProcessId(os.getpid(), 1.0))
