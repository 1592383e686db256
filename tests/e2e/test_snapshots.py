"""Clones, snapshots, ephemeral machines: one machine, what is made of it, and what it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from machines import Machine, eventually, folders_of, hostvm, run, running_machine, succeed

import hostvm as api
from hostvm.machines.warm import discard_warm, warm_paths
from images.progress import NullProgress

pytestmark = pytest.mark.vm

NAME = f"e2e-{os.getpid()}-orig"
CLONE = f"e2e-{os.getpid()}-copy"
SUITE = Path(__file__).parents[2] / "examples" / "suite"
OWNER = """
import sys, time
from hostvm import Machine
machine = Machine.ephemeral(of=sys.argv[1])
machine.open()
print(machine.name, flush=True)
time.sleep(600)
"""
COUNT = "trap exit TERM; i=0; while :; do i=$((i + 1)); echo $i > /t/n; sleep 0.1 & wait; done"


@pytest.fixture(scope="module")
def origin(names_port, tmp_path_factory):
    """Runs when a test gets it, with busybox and a container that only exists."""
    template = tmp_path_factory.mktemp("template") / "more.yaml"
    template.write_text("disks:\n- {name: more, size: 64MiB, mount: /srv/more}\n")
    words = f"--cpus 1 --memory 1GiB --mount none --driver qemu --names {names_port} --template {template}"
    with running_machine(NAME, *words.split()) as made:
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
    origin.shell("touch", "/srv/more/common")
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
    copy.shell("mv", "/srv/more/common", "/srv/more/own")
    copy.docker("create", "--name", "own", "busybox", "true")

    refused = hostvm("rm", NAME)
    assert refused.status == 1
    assert f"machine {NAME} has clones: {clone}" in refused.err
    origin.hostvm("start")
    assert identity(origin) == first
    names = ("ps", "-a", "--format", "{{.Names}}")
    assert origin.docker(*names) == "kept"
    assert copy.docker(*names) == "own"
    assert "common" in origin.shell("ls", "/srv/more")
    assert "own" in copy.shell("ls", "/srv/more")
    copy.sdk.close()
    succeed(hostvm("rm", "--force", clone))
    layers = folders_of(NAME)[0].parent / ".layers"
    assert len(list(layers.iterdir())) == 2, "what the machine's own two disks stand on"


def test_a_running_machine_goes_back_to_what_it_was_memory_included(origin):
    origin.docker("run", "-d", "--name", "counting", "--tmpfs", "/t", "busybox", "sh", "-c", COUNT)
    pid = origin.inspect("counting")["State"]["Pid"]
    boot = origin.boot_id()
    facts = json.loads(origin.hostvm("snapshot", "create", "warm", "--json"))
    assert facts["memory"] > 2**24
    assert origin.boot_id() == boot, "it goes on after the snapshot"
    taken = hostvm("-m", NAME, "snapshot", "create", "warm")
    assert taken.status == 1
    assert "has a snapshot warm already" in taken.err

    another_hypervisors_memory_is_refused(origin)
    for name in ("counting", "kept"):
        origin.docker("rm", "-f", name)
    origin.shell("touch", "/var/lib/hostvm/later", "/run/later", "/srv/more/later")
    for _ in range(2):
        origin.hostvm("snapshot", "restore", "warm")
        assert origin.boot_id() == boot
        assert origin.inspect("counting")["State"]["Pid"] == pid
        assert origin.docker("ps", "-aq", "-f", "name=kept")
        gone = hostvm("-m", NAME, "shell", "--", "ls", "/var/lib/hostvm/later", "/run/later", "/srv/more/later")
        assert gone.err.count("No such file") == 3
        origin.shell("touch", "/var/lib/hostvm/later", "/run/later", "/srv/more/later")


def another_hypervisors_memory_is_refused(origin) -> None:
    """As after an upgrade of QEMU; the machine goes on as if nobody had asked."""
    record = folders_of(NAME)[0] / "snapshots" / "warm" / "snapshot.json"
    text, boot = record.read_text(), origin.boot_id()
    written = json.loads(text)
    written["saved"]["hypervisor"] = "QEMU 1.2.3"
    record.write_text(json.dumps(written))
    refused = hostvm("-m", NAME, "snapshot", "restore", "--force", "warm")
    record.write_text(text)
    assert refused.status == 1
    assert "its memory is QEMU 1.2.3's, here is QEMU " in refused.err
    assert f"hostvm start {NAME} --from-snapshot warm --discard-state" in refused.err
    assert origin.boot_id() == boot


def machine_names() -> list[str]:
    return [facts["name"] for facts in json.loads(succeed(hostvm("ls", "--json")))]


def test_ephemeral_machines_begin_from_a_snapshot_and_go(origin):
    """By Python, by the command, and with an owner that is killed."""
    before = machine_names()
    with api.Machine.ephemeral(of=NAME, snapshot="warm") as one, api.Machine.ephemeral(of=NAME) as two:
        assert {one.status, two.status} == {"running"}
        assert {one.name, two.name} == set(machine_names()) - set(before)
        client = docker.DockerClient(base_url=one.docker_host, timeout=60)
        assert client.containers.get("counting").status == "running"
        client.containers.get("counting").remove(force=True)
        client.close()
        assert b"counting" in two.run(["docker", "ps"], check=True).stdout, "two machines, two disks"
        assert two.run(["sh", "-c", "exit 7"]).status == 7
        with pytest.raises(api.HostvmError, match="ended with 7"):
            two.run(["sh", "-c", "exit 7"], check=True)
    assert machine_names() == before

    words = ("run", "-q", "--rm-machine", "--of", f"{NAME}/warm", "--")
    done = hostvm(*words, "docker", "ps", "--format", "{{.Names}}")
    assert succeed(done) == "counting"
    done = hostvm(*words, "sh", "-c", "echo $DOCKER_HOST; exit 9")
    assert done.status == 9
    assert done.out.startswith(f"unix://{os.environ['HOSTVM_RUN']}/tmp-")
    assert machine_names() == before

    owner = subprocess.Popen([sys.executable, "-c", OWNER, NAME], stdout=subprocess.PIPE, text=True)
    name = owner.stdout.readline().strip()
    assert name in machine_names()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    eventually(lambda: machine_names() == before, "the machine went with its owner")
    eventually(lambda: not any(folder.exists() for folder in folders_of(name)), "nothing of it is left")


def test_machines_that_go_on_from_one_snapshot_draw_random_numbers_of_their_own(origin):
    """Else they make the same keys, ids and nonces until their kernels seed themselves, at once or a minute later."""
    draw = "i=0; while [ $((i += 1)) -le 100 ]; do head -c 16 /dev/urandom | xxd -p; done"
    drawn, told = [], []
    for _ in range(2):
        with api.Machine.ephemeral(of=NAME, snapshot="warm") as machine:
            drawn.append(set(machine.run(["sh", "-c", draw], check=True).stdout.split()))
            told.append(machine.run(["dmesg"], check=True).stdout)
    assert [len(numbers) for numbers in drawn] == [100, 100]
    if origin.shell("uname", "-m") != "x86_64":
        pytest.skip("only amd64 has the device: docs/adr/0081-ephemeral-machines.md")
    assert not drawn[0] & drawn[1]
    assert all(b"crng reseeded due to virtual machine fork" in text for text in told)


def test_a_machine_from_python_from_its_making_to_its_end(clone):
    """As the commands have it, which see the same machine; one boot."""
    name = f"e2e-{os.getpid()}-py"
    machine = api.Machine(name)
    assert not machine.exists
    with pytest.raises(api.HostvmError, match="there is no machine called"):
        machine.start()
    settings = {"cpus": 1, "memory": "1GiB", "mounts": [], "driver": "qemu", "names": "off"}
    try:
        machine = api.Machine.create(name, **settings)
        with pytest.raises(api.HostvmError, match="exists already"):
            api.Machine.create(name, **settings)
        assert machine.status == "stopped"
        assert name in [one.name for one in api.Machine.all()]
        assert machine.start() > 0
        assert machine.start() is None, "it runs"
        assert json.loads(hostvm("status", name, "--json").out)["docker_host"] == machine.docker_host
        boot = machine.run(["cat", "/proc/sys/kernel/random/boot_id"], check=True).stdout
        with pytest.raises(api.HostvmError, match="is running"):
            machine.remove()
        assert machine.suspend() > 0
        assert machine.suspend() is None
        assert (machine.status, machine.clone(clone).status) == ("suspended", "stopped")
        api.Machine(clone).remove()
        assert machine.resume() > 0
        assert machine.pause()
        assert machine.status == "paused"
        assert machine.start() > 0
        assert machine.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout == boot, "it went on, twice"
        client = docker.DockerClient(base_url=machine.docker_host, timeout=60)
        assert client.ping()
        client.close()
        assert (machine.stop(), machine.stop()) == (True, False)
        with pytest.raises(api.HostvmError, match="is stopped"):
            machine.resume()
    finally:
        if machine.exists:
            machine.remove(force=True)
    assert not machine.exists
    assert name not in machine_names()
    assert not any(folder.exists() for folder in folders_of(name))


def test_a_suite_with_an_engine_that_each_test_finds_clean():
    """The example's own pytest, with the plugin; its machine begins from one that is booted for it."""
    words = (sys.executable, "-m", "pytest", "-c", str(SUITE / "pytest.ini"), "-p", "no:cacheprovider", str(SUITE))
    done = run(*words, env={"HOSTVM_CLIENT": "guest"})
    assert done.status == 0, str(done)
    assert "3 passed" in done.out
    warm = list(folders_of(NAME)[0].parent.glob(".warm-*"))
    assert len(warm) == 1, "it is kept for the next run"
    discard_warm(warm_paths(warm[0].name[1:]), NullProgress())


def test_a_stopped_machine_goes_back_to_its_disk(origin):
    origin.shell("sh", "-c", "echo cold > /var/lib/hostvm/mark")
    origin.hostvm("stop")
    assert json.loads(origin.hostvm("snapshot", "create", "cold", "--json"))["memory"] == 0
    assert [one["name"] for one in json.loads(origin.hostvm("snapshot", "ls", "--json"))] == ["warm", "cold"]
    unknown = hostvm("start", NAME, "--from-snapshot", "none")
    assert unknown.status == 1
    assert "snapshots there: cold, warm" in unknown.err
    origin.hostvm("start", "--from-snapshot", "warm")
    assert origin.state("counting") == "running"
    assert "mark" not in origin.shell("ls", "/var/lib/hostvm").split(), "that came later"
    origin.hostvm("snapshot", "restore", "cold")
    assert json.loads(hostvm("status", NAME, "--json").out)["status"] == "stopped"
    origin.hostvm("start")
    assert origin.shell("cat", "/var/lib/hostvm/mark") == "cold"
    for name in ("warm", "cold"):
        origin.hostvm("snapshot", "rm", name)
    assert origin.hostvm("snapshot", "ls", "--json") == "[]"
    assert not list(folders_of(NAME)[0].glob("snapshots/*"))
