"""What a program in the guest may say when its output is collected."""

from __future__ import annotations

import threading

import pytest

from hostvm.errors import SshError
from hostvm.guest import Completed
from hostvm.ssh import connection as module
from hostvm.ssh.connection import Connection

MIB = 1 << 20


class Program:
    """Writes so many bytes to each of its two outputs; one that is killed has no status."""

    def __init__(self, output, errors):
        self.left = [output, errors]
        self.read = 0
        self.killed = threading.Event()

    def _take(self, stream, size):
        size = 0 if self.killed.is_set() else min(size, self.left[stream])
        self.left[stream] -= size
        self.read += size
        return b"x" * size

    def read_stdout(self, size):
        return self._take(0, size)

    def read_stderr(self, size):
        return self._take(1, size)

    def close_stdin(self): ...

    def abort(self):
        self.killed.set()

    def close(self): ...

    def wait(self):
        if self.killed.is_set():
            raise SshError("the program's exit status was lost")
        return 0


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(module, "OUTPUT_MOST", MIB)

    def run(program):
        monkeypatch.setattr(Connection, "_start", lambda *_: program)
        return object.__new__(Connection).run(["cat", "a file"])

    return run


def test_output_within_the_limit_is_whole(run):
    assert run(Program(MIB, MIB)) == Completed(0, b"x" * MIB, b"x" * MIB)


@pytest.mark.parametrize(("output", "errors"), [(1 << 60, 0), (0, 1 << 60), (1 << 60, 1 << 60)])
def test_a_program_that_never_stops_is_killed(run, output, errors):
    program = Program(output, errors)
    with pytest.raises(SshError) as caught:
        run(program)
    assert caught.value.brief == "a program in the guest has too much to say"
    assert caught.value.details == "exec cat 'a file' wrote more than 1 MiB and was killed"
    assert program.killed.is_set()
    assert program.read < 4 * MIB
