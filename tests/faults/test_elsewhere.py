"""A start over what a former boot of this computer left in the run folder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess

import pytest
from machines import folders_of, hostvm, processes_of, succeed
from victims import is_alone

from hostvm import process_id

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(900)]

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"
SOCKETS = ("agent.sock", "docker.sock", "sleep.sock", "qmp.sock", "names.sock")


@pytest.fixture
def noted(machine):
    """The machine, with a container that has written something."""
    machine.docker("run", "--name", "noted", "busybox", "sh", "-c", "echo kept > /note && sync")
    yield machine
    machine.hostvm("start")
    machine.docker("rm", "-f", "noted")


def reads_note(name: str) -> bool:
    """Whether what the container has written is there."""
    return "kept" in succeed(hostvm("-m", name, "docker", "cp", "noted:/note", "-"))


@pytest.fixture
def bystander():
    """A process of somebody else, which has got the numbers of ours."""
    process = subprocess.Popen(["sleep", "900"])
    yield process
    process.kill()
    process.wait()


def lose_power(name: str, bystander: int, files: dict[str, bytes]) -> None:
    """Leave a machine's run folder as it is when this computer is on again: nothing of the machine lives.

    The files are what they were, sockets have nobody who listens, and every number of a process is another one's by
    now; that one may even have started as long after the computer had.

    :param files: those of the machine as it ran.
    """
    folder, run_dir = folders_of(name)
    for pid in processes_of(name):
        if (found := process_id.identify(pid)) is not None:
            process_id.kill(found)
    shutil.rmtree(run_dir)
    run_dir.mkdir(mode=0o700)
    for file, data in files.items():
        (run_dir / file).write_bytes(data)
    for file in SOCKETS:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(run_dir / file))
    (run_dir / "qemu.pid").write_text(f"{bystander}\n")
    facts = process_id.identify(bystander).facts()
    agent = json.loads(files["agent.json"]) | {"process": [*facts[:2], OTHER_BOOT]}
    (run_dir / "agent.json").write_text(json.dumps(agent))
    (folder.parent.parent / "locks" / f"{name}.holder").write_text(f"process {bystander}: stop {name}\n")


@pytest.mark.parametrize("was", ["running", "suspended"])
def test_a_start_over_what_a_former_boot_left(noted, bystander, was):
    name = noted.name
    files = {path.name: path.read_bytes() for path in folders_of(name)[1].iterdir() if path.is_file()}
    assert {"agent.json", "agent.lock", "qemu.pid"} <= set(files)
    boot = noted.boot_id()
    if was == "suspended":
        noted.hostvm("suspend")
    lose_power(name, bystander.pid, files)
    assert json.loads(hostvm("status", name, "--json").out)["status"] == ("stopped" if was == "running" else was)

    succeed(hostvm("start", name))
    assert bystander.poll() is None, "a process that is not ours was ended"
    assert (noted.boot_id() == boot) == (was == "suspended")
    assert reads_note(name)
    assert is_alone(name)
    assert noted.sdk.ping(), "docker.sock is served anew"
    succeed(hostvm("stop", name))
    assert bystander.poll() is None
