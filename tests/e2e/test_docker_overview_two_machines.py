"""What Docker's overview says where two daemons are needed; the second machine lives as long as this file's tests."""

from __future__ import annotations

import json
import os
import signal
import urllib.request

import docker
import pytest
from machines import eventually, hostvm, run, succeed

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

FOREVER = ("sleep", "3600")


def test_several_guests_run_at_once_each_a_system_of_its_own(machine, second_machine):
    facts = {row["name"]: row for row in json.loads(succeed(hostvm("ls", "--json")))}
    both = [facts[machine.name], facts[second_machine.name]]
    assert [row["status"] for row in both] == ["running", "running"]
    assert (both[0]["cpus"], both[1]["cpus"]) == (2, 1)
    assert [one.shell("nproc") for one in (machine, second_machine)] == ["2", "1"]
    assert machine.boot_id() != second_machine.boot_id()
    assert both[0]["docker_host"] != both[1]["docker_host"]
    assert set(succeed(hostvm("ls", "-q")).splitlines()) >= {machine.name, second_machine.name}
    assert [one.shell("uname", "-n") for one in (machine, second_machine)] == [machine.name, second_machine.name]
    machine.shell("sh", "-c", "echo mine > /var/tmp/own")
    assert second_machine.shell("sh", "-c", "ls /var/tmp/own 2>/dev/null; true") == ""
    machine.shell("rm", "/var/tmp/own")


def test_containers_of_one_machine_are_unknown_to_another(box, other, unique):
    name = unique("mine")
    box.docker("create", "--name", name, "busybox", "true")
    assert name in box.docker("ps", "-a", "--format", "{{.Names}}").split()
    assert name not in other.docker("ps", "-a", "--format", "{{.Names}}").split()


def test_one_client_talks_to_two_daemons(box, other, client_program):
    """The same program on this computer, told by nothing but DOCKER_HOST which daemon it speaks to."""
    ask = (client_program, "info", "--format", "{{.ID}} {{.Name}}")
    answers = [succeed(run(*ask, env={"DOCKER_HOST": one.docker_host})).split() for one in (box, other)]
    assert [name for _, name in answers] == [box.name, other.name]
    assert answers[0][0] != answers[1][0]


@pytest.fixture
def traveller(box, other, unique):
    """A running container that has written to its own layer and to a named volume; (its name, the volume's)."""
    name, volume = unique("traveller"), unique("luggage")
    program = "[ -e /own ] || { echo layer > /own; mkdir /data/deep; echo volume > /data/deep/file; }; exec sleep 3600"
    options = ("-v", f"{volume}:/data", "-e", "COLOUR=red", "--label", "kind=traveller", "--restart", "on-failure:2")
    box.docker("run", "-d", "--name", name, *options, "busybox", "sh", "-c", program)
    box.docker("exec", name, "chown", "-R", "12:34", "/data/deep")
    return name, volume


def test_container_moves_between_machines_with_writable_layer_and_volume(box, other, traveller):
    name, _ = traveller
    before = box.container(name)
    succeed(hostvm("move", name, "--from", box.name, "--to", other.name))
    with pytest.raises(docker.errors.NotFound):
        box.container(name)
    assert other.state(name) == "running"
    look = "cat /own /data/deep/file; stat -c %u:%g /data/deep/file; echo $COLOUR"
    assert other.docker("exec", name, "sh", "-c", look).splitlines() == ["layer", "volume", "12:34", "red"]
    moved = other.container(name)
    assert moved["Config"]["Labels"] == before["Config"]["Labels"]
    assert moved["Config"]["Labels"]["kind"] == "traveller"
    assert moved["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]


def test_move_never_overwrites_what_is_there(box, other, traveller):
    name, volume = traveller
    other.docker("create", "--name", name, "busybox", "true")
    refused = hostvm("move", name, "--from", box.name, "--to", other.name)
    assert refused.status == 1
    assert name in refused.err
    assert box.state(name) == "running"
    assert volume not in other.docker("volume", "ls", "-q").split()
    assert other.container(name)["Config"]["Cmd"] == ["true"]


def page_of(name: str, port: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": f"{name}.hostvm.localhost"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode().strip()
    except OSError:
        return ""


def test_container_names_of_both_at_one_port_whichever_agent_holds_it(box, other, names_port):
    for one in (box, other):
        page = f"mkdir -p /w && echo {one.name} > /w/index.html && exec httpd -f -p 80 -h /w"
        one.docker("run", "-d", "--name", "same", "busybox", "sh", "-c", page)
    wanted = {f"same.{one.name}": one.name for one in (box, other)}
    eventually(lambda: {name: page_of(name, names_port) for name in wanted} == wanted, "both answer")
    first = min(box.name, other.name)
    assert page_of("same", names_port) == first, "the machines' order decides, not the agents'"
    agents = {one.name: json.loads(one.hostvm("status", "--json"))["agent"] for one in (box, other)}
    (holder,) = (name for name, agent in agents.items() if agent["services"]["names"]["held"])
    os.kill(agents[holder]["pid"], signal.SIGKILL)
    left = ({box.name, other.name} - {holder}).pop()
    eventually(lambda: page_of(f"same.{left}", names_port) == left, "the other agent took the port over")
    succeed(hostvm("start", holder))
    eventually(lambda: {name: page_of(name, names_port) for name in wanted} == wanted, "both answer again")
