"""Running tasks are a use of a containerd machine."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent.service import Uses
from hostvm.spec import default_spec
from runtime.containerd.tasks import TaskService, any_runs
from runtime.engine import find_engine


class Program:
    """The kept program: each question waits for the next of `answers`."""

    def __init__(self):
        self.asked, self.answers, self.closed = queue.Queue(), queue.Queue(), threading.Event()

    def write_stdin(self, data):
        self.asked.put(data)

    def read_stdout(self, size):
        return self.answers.get(timeout=10)

    def close(self):
        self.closed.set()


class Guest:
    def __init__(self):
        self.begun = queue.Queue()

    def stream(self, argv):
        assert argv[:2] == ["sh", "-c"]
        self.begun.put(program := Program())
        return program


class Host:
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.fixture
def guest():
    return Guest()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def clock():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def service(guest, host, clock):
    made = TaskService(lambda: clock.now)
    made.start(guest, host)
    yield made
    made.stop()
    until(lambda: not any(thread.name == "tasks" for thread in threading.enumerate()))


def test_a_task_is_a_use_from_one_look_to_the_next(service, guest):
    assert service.in_use(), "nobody knows yet"
    program = guest.begun.get(timeout=10)
    program.answers.put(b"0")
    program.answers.put(b"\n")
    until(lambda: not service.in_use())
    program.answers.put(b"1\n")
    until(service.in_use)
    assert guest.begun.empty(), "one program is kept"
    program.answers.put(b"0\n")
    program.answers.put(b"0\n")
    until(lambda: not service.in_use())
    service.stop()
    program.answers.put(b"0\n")
    assert program.closed.wait(10)


def test_nobody_asks_the_guest_but_who_wants_to_know(service, guest):
    program = guest.begun.get(timeout=10)
    assert program.asked.get(timeout=10) == b"\n"
    program.answers.put(b"0\n")
    until(lambda: service._since is None)
    assert program.asked.empty()
    assert not service.in_use()
    assert not service.in_use(), "asked once until it is answered"
    assert program.asked.get(timeout=10) == b"\n"
    program.answers.put(b"0\n")
    until(lambda: service._since is None)
    assert program.asked.empty()


def test_a_guest_that_does_not_answer_is_not_put_to_sleep(service, guest, clock):
    program = guest.begun.get(timeout=10)
    program.answers.put(b"0\n")
    until(lambda: service._since is None)
    assert not service.in_use()
    clock.now += 0.2
    assert not service.in_use()
    clock.now += 0.1
    assert service.in_use()
    program.answers.put(b"0\n")
    until(lambda: not service.in_use())
    program.answers.put(b"0\n")


def test_a_program_that_ended_is_begun_anew(service, guest, host):
    program = guest.begun.get(timeout=10)
    program.answers.put(b"0\n")
    until(lambda: not service.in_use())
    program.answers.put(b"")
    until(lambda: host.lines)
    assert host.lines == ["tasks: the program that looks for tasks has ended"]
    until(service.in_use)  # nobody knows now
    other = guest.begun.get(timeout=10)
    other.answers.put(b"0\n")
    until(lambda: not service.in_use())
    other.answers.put(b"0\n")


def test_an_answer_comes_in_pieces_or_not_at_all():
    program = Program()
    for piece in (b"1", b"\n"):
        program.answers.put(piece)
    assert any_runs(program)
    program.answers.put(b"")
    with pytest.raises(ConnectionError):
        any_runs(program)


def test_containerd_machines_have_it():
    assert any(isinstance(one, Uses) for one in find_engine("containerd").services(default_spec()))
