from __future__ import annotations

import queue

import pytest

from hostvm.agent import rules as module
from hostvm.agent.rules import Rules
from hostvm.errors import DriverError, PortTaken


class Hypervisor:
    def __init__(self, *listed, taken=0, refuses=False):
        self.rules, self.taken, self.refuses = set(listed), taken, refuses

    def add(self, protocol, host_port, guest_port):
        if self.refuses:
            raise DriverError("QEMU's monitor does not answer", None, "ask it")
        if self.taken:
            self.taken -= 1
            raise PortTaken("taken", None, "again")
        self.rules.add((protocol, host_port))

    def remove(self, protocol, host_port):
        self.rules.discard((protocol, host_port))

    def listed(self):
        return sorted(self.rules)


@pytest.fixture(autouse=True)
def numbers(monkeypatch):
    """Free ports without asking the system."""
    count = iter(range(50001, 50100))
    monkeypatch.setattr(module, "_free", lambda _: next(count))


@pytest.fixture
def ask():
    made = []

    def get(hypervisor, *wants):
        lines, answers = [], queue.Queue()
        made.append(Rules(hypervisor, 22000, lines.append))
        found = []
        for want in wants:
            made[-1].want(*want, answers.put)
            found.append(answers.get(timeout=10))
        return made[-1], found, lines

    yield get
    for one in made:
        one.close()


def test_a_rule_is_made_once_and_removed(ask):
    hypervisor = Hypervisor(("tcp", 22000))
    rules, found, lines = ask(hypervisor, ("tcp", 80), ("tcp", 80), ("udp", 80))
    assert found == [50001, 50001, 50002]
    assert hypervisor.rules == {("tcp", 22000), ("tcp", 50001), ("udp", 50002)}
    rules.drop("tcp", 80)
    rules.close()
    assert hypervisor.rules == {("tcp", 22000)}
    assert lines == []


def test_what_a_dead_agent_left_goes_first_but_not_the_way_to_ssh(ask):
    hypervisor = Hypervisor(("tcp", 22000), ("tcp", 40000), ("udp", 22000))
    ask(hypervisor, ("tcp", 80))
    assert hypervisor.rules == {("tcp", 22000), ("tcp", 50001)}


def test_a_port_taken_meanwhile_is_no_matter(ask):
    assert ask(Hypervisor(taken=2), ("tcp", 80))[1] == [50003]


def test_a_hypervisor_that_refuses_is_not_asked_again_at_once(ask):
    hypervisor = Hypervisor(refuses=True)
    rules, found, lines = ask(hypervisor, ("tcp", 80))
    hypervisor.refuses = False
    answers = []
    rules.want("tcp", 80, answers.append)
    assert (found, answers) == ([None], [None])
    assert len(lines) == 1
    assert "no quick way to port 80/tcp" in lines[0]


def test_without_a_hypervisor_here_there_is_no_way(ask):
    rules, found, _ = ask(None, ("tcp", 80))
    assert (found, rules.able) == ([None], False)
