"""Who is told to hold a machine's lock."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from hostvm import locks
from hostvm.errors import MachineError
from hostvm.locks import machine_lock
from hostvm.machines import layers
from hostvm.machines.layers import layers_lock
from hostvm.paths import MachinePaths, home


def told_of(paths: MachinePaths) -> str:
    with pytest.raises(MachineError, match="machine box is busy") as caught, machine_lock(paths, 0.01):
        pytest.fail("both have it")
    return caught.value.details


@pytest.mark.parametrize(
    ("words", "told"),
    [(["stop", "box"], ": stop box has"), (["cp", "\udcff", "box:/"], r": cp \udcff box:/ has"), ([], ": hostvm has")],
)
def test_who_waits_is_told_the_words_of_who_has_it_be_they_utf_8_or_not(monkeypatch, words, told):
    monkeypatch.setattr(sys, "argv", ["hostvm", *words])
    with machine_lock(MachinePaths.of("box")):
        assert told in told_of(MachinePaths.of("box"))


def test_a_holder_who_is_not_written_yet_or_left_a_moment_ago_is_another_process(monkeypatch):
    paths = MachinePaths.of("box")
    holder = paths.lock.with_suffix(".holder")
    with machine_lock(paths):
        holder.write_bytes(b"")
        assert told_of(paths).startswith("another process has")
        holder.write_bytes(b"process 1: \xff")
        assert told_of(paths).startswith("process 1: \ufffd has")
        holder.unlink()
        monkeypatch.setattr(type(holder), "exists", lambda _: True)
        assert told_of(paths).startswith("another process has")


def test_what_machines_share_is_told_to_be_busy_with_who_has_it(monkeypatch):
    monkeypatch.setattr(layers, "_LOCK_SECONDS", 0.01)
    monkeypatch.setattr(sys, "argv", ["hostvm", "clone", "a", "b"])
    with layers_lock():
        told = told_by(layers_lock())
        inside = MachinePaths.of("box")
        with pytest.raises(MachineError) as caught, machine_lock(inside), layers_lock():
            pytest.fail("both have it")
    assert told.brief == "the folder of disks that machines share is busy"
    assert told.details == f"process {os.getpid()}: clone a b has held it for 0 s"
    assert told.resolution.splitlines()[0] == "look with: hostvm ls"
    assert caught.value == told, "it is not the machine that is busy"
    with machine_lock(inside), layers_lock():
        pass
    assert not list((home() / "locks").glob("*.holder"))


def test_a_full_disk_hinders_no_command_that_makes_room(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with machine_lock(MachinePaths.of("box")), layers_lock():
        assert told_of(MachinePaths.of("box")).startswith("another process has")


def refuse(monkeypatch, number: int, of: Path) -> None:
    """Nothing can be opened for writing; root may write where modes forbid it, so the system's answer is acted out."""

    def refused(self, *_, **__):
        raise OSError(number, os.strerror(number), str(of))

    monkeypatch.setattr(locks.FileLock, "acquire", refused)


def told_by(hold) -> MachineError:
    with pytest.raises(MachineError) as caught, hold:
        pytest.fail("it was held")
    return caught.value


@pytest.mark.skipif(sys.platform == "win32", reason="its file systems are not mounted read-only")
@pytest.mark.parametrize(
    ("system", "change"),
    [("linux", 'mount -o remount,rw "$(findmnt -n -o TARGET -T {0})"'), ("darwin", "mount -uw {0.parent}")],
)
def test_a_read_only_home_is_told_with_the_mount_to_change(monkeypatch, system, change):
    paths = MachinePaths.of("box")
    refuse(monkeypatch, errno.EROFS, paths.lock)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == home().parent)
    for hold in (machine_lock(paths), layers_lock()):
        told = told_by(hold)
        assert told.brief == f"HOSTVM_HOME is read-only: {home()}"
        assert f"Read-only file system: {paths.lock}" in told.details
        assert "ls, status, inspect and logs work all the same" in told.details
        assert told.resolution.splitlines()[0] == f"make it writable: sudo {change.format(home())}"


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner's number there")
def test_files_that_a_command_as_root_left_are_told_with_what_takes_them_back(monkeypatch):
    paths = MachinePaths.of("box")
    refuse(monkeypatch, errno.EACCES, paths.lock)
    told = told_by(machine_lock(paths))
    assert told.brief == f"HOSTVM_HOME cannot be written: {home()}"
    assert told.resolution.startswith(f'make it yours again: sudo chown -R "$(id -un)" {home()} && chmod ')
    monkeypatch.setattr(os, "geteuid", lambda: home().stat().st_uid + 1)
    assert told_by(machine_lock(paths)).resolution == "choose another folder: export HOSTVM_HOME=~/hostvm"


def test_a_home_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOSTVM_HOME", str(tmp_path / "new" / "home"))

    def refused(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert told_by(machine_lock(MachinePaths.of("box"))).brief == f"HOSTVM_HOME is read-only: {home()}"


def test_other_faults_of_the_system_are_not_taken_for_it(monkeypatch):
    refuse(monkeypatch, errno.EIO, home())
    with pytest.raises(OSError, match="Input/output error"), machine_lock(MachinePaths.of("box")):
        pytest.fail("it was held")


def test_what_the_holder_is_refused_is_not_taken_for_it():
    fault = OSError(errno.EACCES, "Permission denied", "elsewhere")
    with pytest.raises(PermissionError), machine_lock(MachinePaths.of("box")):
        raise fault
    with machine_lock(MachinePaths.of("box")):
        pass
