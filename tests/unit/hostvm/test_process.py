from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from hostvm import process
from hostvm.errors import HostvmError
from hostvm.process import Result


def test_programs_get_a_scrubbed_environment(monkeypatch):
    monkeypatch.setattr(
        os, "environ", {"PATH": "/bin", "HOSTVM_HOME": "/h", "LD_PRELOAD": "x", "QEMU_AUDIO_DRV": "x", "LC_ALL": "de"}
    )
    assert process.scrubbed_env({"A": "1"}) == {"PATH": "/bin", "HOSTVM_HOME": "/h", "LC_ALL": "C.UTF-8", "A": "1"}


def test_a_failure_tells_command_status_and_output():
    failed = Result(("/usr/bin/qemu-img", "create", "a b"), 1, b"out\n", b"no space\n")
    assert process.failure(failed) == HostvmError(
        "qemu-img failed",
        "command: /usr/bin/qemu-img create 'a b'\nexit status 1\nno space\nout",
        "Try it by hand: /usr/bin/qemu-img create 'a b'",
    )


def test_a_failure_may_be_named_by_its_caller():
    error = process.failure(Result(("x",), 2, b"", b""), "no disk", "Do this: y")
    assert (error.brief, error.resolution) == ("no disk", "Do this: y")


def test_only_the_end_of_long_output_is_shown():
    error = process.failure(Result(("x",), 1, b"", b"a" * 9000 + b"the end"))
    assert error.details is not None
    assert len(error.details) < 5000
    assert "[...] aaa" in error.details
    assert error.details.endswith("the end")


def test_what_ends_it_ends_the_program_that_it_waits_for(monkeypatch):
    """`timeout 60 hostvm run -- make test`: the program ran on alone, and nothing was tidied up."""
    told = []

    class Popen:
        def __init__(self, *_, **__):
            pass

        def terminate(self):
            told.append("program")

        def wait(self):
            signal.raise_signal(signal.SIGTERM)
            return -signal.SIGTERM

    monkeypatch.setattr(process.subprocess, "Popen", Popen)
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("us"))
    try:
        assert process.run_attached(["make"]) == 128 + signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == ["program", "us"]


@pytest.fixture
def windows(monkeypatch, tmp_path):
    """A Windows whose system, and whose shutil, take programs of the current folder first; gives what was started."""
    started = []

    def popen(words, **_):
        started.append(words)
        raise FileNotFoundError(2, "not in this test")

    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    for place in ("here/tool.exe", "here/other.exe", "bin/tool.exe", "bin/npm.cmd"):
        (tmp_path / place).touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PATHEXT", ".COM;.EXE;.BAT;.CMD")
    monkeypatch.setattr(process, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(process.subprocess, "Popen", popen)
    for flag in ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP"):
        monkeypatch.setattr(process.subprocess, flag, 0, raising=False)
    return started


def test_what_lies_in_the_current_folder_is_not_run_for_a_program_on_windows(windows, tmp_path):
    """A repository may hold a qemu-img.exe, or a credential helper that is told the password."""
    for word in ("tool", "tool.exe"):
        with pytest.raises(HostvmError, match="cannot start tool"):
            process.run([word, "-x"])
    with pytest.raises(HostvmError, match="cannot start other: it is not on PATH"):
        process.run(["other"])
    assert windows == [(str(tmp_path / "bin" / "tool.exe"), "-x")] * 2
    assert process.find_program("other") is None
    assert process.find_program("tool", str(tmp_path / "bin")) == str(tmp_path / "bin" / "tool.exe")


def test_a_command_to_paste_is_quoted_as_windows_reads_it(windows):
    """In cmd a single quote is a letter, and PowerShell takes a quoted first word for a text."""
    with pytest.raises(HostvmError) as caught:
        process.run(["C:\\qemu\\qemu-img.exe", "info", "C:\\Users\\a b\\data.qcow2"])
    assert caught.value.details == 'command: C:\\qemu\\qemu-img.exe info "C:\\Users\\a b\\data.qcow2"'


def test_a_path_is_run_as_it_is_told_on_windows(windows):
    with pytest.raises(HostvmError):
        process.run(["C:\\Program Files\\qemu\\qemu-img.exe", "info"])
    assert windows == [("C:\\Program Files\\qemu\\qemu-img.exe", "info")]


def test_a_command_of_the_users_may_be_a_cmd_on_windows_or_lie_here(windows, tmp_path):
    for words in (["npm", "test"], ["other"]):
        with pytest.raises(HostvmError):
            process.run_attached(words)
    assert windows == [(str(tmp_path / "bin" / "npm.cmd"), "test"), ("other",)]


@pytest.mark.parametrize(
    ("status", "is_fault"),
    [
        (0xC0000005, True),  # an access violation
        (0xC0000409, True),  # abort()
        (0xE06D7363, True),  # a C++ exception that nobody caught
        (0xC000013A, False),  # Ctrl-C, and a console that was closed
        (0xC0000135, False),  # a DLL is missing
        (0xC0000139, False),  # or another version of it
        (0xC000007B, False),  # or one for another processor
        (0xFFFFFFFF, False),  # PowerShell's Stop-Process
        (1, False),
        (0, False),
        (None, False),
    ],
)
def test_which_ends_on_windows_are_crashes(status, is_fault):
    assert process.is_fault(status) is is_fault


def test_a_crash_is_known_as_soon_as_others_can_see_the_end(monkeypatch, tmp_path):
    """A start that fails for it asks in that moment, and is not begun anew otherwise."""

    class Ended:
        pid = 1 << 30

        def wait(self):
            time.sleep(0.3)
            return -signal.SIGSEGV if os.name == "posix" else 0xC0000005

    monkeypatch.setattr(process, "_popen", lambda *_, **__: Ended())
    assert process.has_crashed(process.spawn_detached(["qemu"], tmp_path / "log"))
