"""Machines made of others at once: clones. One machine, and what is made of it."""

from __future__ import annotations

import json
import os

import pytest
from machines import Machine, folders_of, hostvm, running_machine, succeed

pytestmark = pytest.mark.vm

NAME = f"e2e-{os.getpid()}-orig"
CLONE = f"e2e-{os.getpid()}-copy"


@pytest.fixture(scope="module")
def origin(names_port):
    """Runs when a test gets it, with busybox and a container that only exists."""
    options = ("--cpus", "2", "--memory", "1GiB", "--mount", "none", "--driver", "qemu", "--names", names_port)
    with running_machine(NAME, *options) as made:
        made.hostvm("image", "base", "busybox:latest")
        made.docker("create", "--name", "kept", "busybox", "true")
        yield made


@pytest.fixture
def clone():
    yield CLONE
    hostvm("rm", "--force", CLONE)


def identity(machine) -> dict[str, str]:
    """What must be a machine's own."""
    facts = json.loads(machine.hostvm("inspect"))
    words = machine.shell("sh", "-c", "hostname; cat /etc/machine-id /sys/class/net/eth0/address").split()
    return {
        **dict(zip(("hostname", "machine-id", "mac"), words, strict=True)),
        "engine": machine.docker("info", "-f", "{{.ID}}"),
        "host key": machine.shell("cat", "/run/hostvm/seed/ssh_host_ed25519_key.pub"),
        "port": str(facts["made"]["ssh_port"]),
        "uuid": facts["made"]["uuid"],
    }


def test_a_clone_is_a_machine_of_its_own_and_both_go_on(origin, clone):
    refused = hostvm("clone", NAME, clone)
    assert refused.status == 1
    assert f"machine {NAME} is running" in refused.err
    assert f"hostvm suspend {NAME}" in refused.err
    taken = hostvm("clone", NAME, NAME)
    assert taken.status == 1
    assert f"machine {NAME} exists already" in taken.err

    first = identity(origin)
    origin.hostvm("suspend")
    facts = json.loads(succeed(hostvm("clone", NAME, clone, "--json")))
    assert (facts["name"], facts["status"]) == (clone, "stopped")
    assert json.loads(hostvm("status", NAME, "--json").out)["status"] == "suspended"
    succeed(hostvm("start", clone))
    copy = Machine(clone)
    second = identity(copy)
    assert {key for key in first if first[key] == second[key]} == set()
    assert second["hostname"] == clone
    copy.docker("rm", "kept")
    copy.docker("create", "--name", "own", "busybox", "true")

    refused = hostvm("rm", NAME)
    assert refused.status == 1
    assert f"machine {NAME} has clones: {clone}" in refused.err
    origin.hostvm("start")
    assert identity(origin) == first
    names = ("ps", "-a", "--format", "{{.Names}}")
    assert origin.docker(*names) == "kept"
    assert copy.docker(*names) == "own"
    copy.sdk.close()
    succeed(hostvm("rm", "--force", clone))
    layers = folders_of(NAME)[0].parent / ".layers"
    assert len(list(layers.iterdir())) == 1, "what the machine itself stands on"
