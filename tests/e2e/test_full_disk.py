"""A guest's data disk that a container fills: told, survived, and forgotten when there is room again."""

from __future__ import annotations

import json
import os

import pytest
from machines import eventually, hostvm, small_machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(scope="module")
def narrow():
    with small_machine(f"e2e-{os.getpid()}-narrow", "--disk", "2GiB") as made:
        yield made


def room(machine):
    """The line of `hostvm status`, "" when there is none, and the facts."""
    lines = [line for line in machine.hostvm("status").splitlines() if line.startswith("room:")]
    return "".join(lines), json.loads(machine.hostvm("status", "--json"))["room"]


def test_a_container_fills_the_disk(narrow):
    line, facts = room(narrow)
    assert (line, facts["nearly_full"]) == ("", False)
    boot, before = narrow.boot_id(), facts["free"]
    told = f"hostvm: the data disk of machine {narrow.name} is full: hostvm prune --all {narrow.name}, or"

    failed = narrow.try_docker("run", "--name", "eats", "busybox", "sh", "-c", "echo kept > /k; cat /dev/zero > /f")
    assert (failed.status, told in failed.err) == (1, True), failed
    line, facts = room(narrow)
    assert line.endswith(f"hostvm prune --all {narrow.name}, or hostvm set {narrow.name} disk=4GiB")
    assert (facts["nearly_full"], facts["free"] < 1 << 20) == (True, True)
    found = {row["name"]: row["level"] for row in json.loads(hostvm("doctor", narrow.name, "--json").out)}
    assert (found["room"], found["engine"]) == ("warn", "ok")

    assert narrow.boot_id() == boot
    assert narrow.state("eats") == "exited"
    assert narrow.holds("eats", "/k") == "kept\n"
    assert "eats" in narrow.docker("ps", "-a"), "and nothing is added to what succeeds"
    assert told not in narrow.try_docker("ps").err
    again = narrow.try_docker("run", "--rm", "busybox", "sh", "-c", "echo more > /f")
    assert (again.status != 0, told in again.err) == (True, True), again

    narrow.docker("rm", "eats")
    eventually(lambda: room(narrow)[1]["free"] > before - (64 << 20), "its room is free again", 60)
    assert room(narrow)[0] == ""
    wrong = narrow.try_docker("run", "--rm", "busybox", "false")
    assert (wrong.status, wrong.err) == (1, "")
    assert narrow.docker("run", "--rm", "busybox", "sh", "-c", "echo more > /f; cat /f") == "more"
