from __future__ import annotations

import os
import signal

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
