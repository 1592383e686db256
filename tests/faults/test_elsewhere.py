"""A start over what a former boot of this computer left in the run folder, and of a HOSTVM_HOME on another computer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from machines import folders_of, hostvm, processes_of, run, succeed
from test_files import refused
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


def reads_note(name: str, env: dict[str, str] | None = None) -> bool:
    """Whether what the container has written is there."""
    return "kept" in succeed(hostvm("-m", name, "docker", "cp", "noted:/note", "-", env=env))


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


@pytest.fixture
def elsewhere(noted, tmp_path):
    """`elsewhere()` is the environment of another computer that got a copy of this one's HOSTVM_HOME.

    Its cache holds no image, only the packages that ours was made of.
    """
    run_dir = tempfile.mkdtemp(prefix="hv-")  # short: sockets are in it
    env = {"HOSTVM_HOME": str(tmp_path / "home"), "HOSTVM_CACHE": str(tmp_path / "cache"), "HOSTVM_RUN": run_dir}

    def copy() -> dict[str, str]:
        succeed(run("cp", "-a", os.environ["HOSTVM_HOME"], env["HOSTVM_HOME"]))
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "archive").symlink_to(Path(os.environ["HOSTVM_CACHE"], "archive"))
        return env

    yield copy
    removed = hostvm("rm", "--force", noted.name, env=env)
    shutil.rmtree(run_dir)
    succeed(removed)


def change(path: Path, **facts: object) -> dict[str, object]:
    """Put facts into a record; gives what it held."""
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | facts))
    return dict(held)


def test_a_suspended_machine_on_another_computer(noted, elsewhere, tmp_path):
    """Neither its image nor its QEMU is there: its memory is kept until somebody gives it up."""
    name, boot = noted.name, noted.boot_id()
    noted.hostvm("snapshot", "create", "before")
    noted.hostvm("suspend")
    env = elsewhere()
    folder = Path(env["HOSTVM_HOME"], "machines", name)
    state = change(
        folder / "state.json",
        trial={
            "process": [1, process_id.identify(1).started, OTHER_BOOT],
            "image": json.loads((folder / "state.json").read_text())["image"],
            "former_image": "",
            "wanted_off": False,
        },
    )
    change(folder / "suspended.json", hypervisor="QEMU 1.2.3")
    short = state["image"].removeprefix("sha256:")[:12]
    ram = (folder / "suspended.ram").stat()

    refused(hostvm("start", name, env=env), "cannot be resumed", f"its image {short} is not in", "image import")
    refused(hostvm("upgrade", name, "--image", short, env=env), "hostvm image")
    refused(hostvm("start", "--discard-state", name, env=env), f"image {short} of machine {name} is not on this")
    assert (folder / "suspended.json").exists()
    assert (folder / "suspended.ram").stat() == ram

    file = str(tmp_path / "image")
    succeed(hostvm("image", "export", "-q", "-o", file, short))
    succeed(hostvm("image", "import", "-q", "--allow-unsigned", file, env=env))
    for verb in ("start", "stop"):
        refused(
            hostvm(verb, name, env=env), "its memory is QEMU 1.2.3's, here is QEMU ", "hostvm start --discard-state"
        )
    assert (folder / "suspended.ram").stat() == ram
    assert json.loads(hostvm("status", name, "--json", env=env).out)["status"] == "suspended"

    succeed(hostvm("start", "--discard-state", name, env=env))
    assert reads_note(name, env)
    assert not (folder / "suspended.ram").exists()
    assert json.loads((folder / "state.json").read_text())["trial"] is None
    names = json.loads(succeed(hostvm("-m", name, "snapshot", "ls", "--json", env=env)))
    assert [one["name"] for one in names] == ["before"]
    succeed(hostvm("stop", name, env=env))
    # What was copied notices nothing.
    noted.hostvm("start")
    assert noted.boot_id() == boot
    noted.hostvm("snapshot", "rm", "before")


def test_a_machine_on_another_computer_gets_its_image_by_the_command_that_it_is_told(noted, elsewhere):
    name = noted.name
    noted.hostvm("stop")
    env = elsewhere()
    refused(hostvm("start", name, env=env), "is not on this computer", f"hostvm upgrade {name}   # builds the image")
    doctor = {row["name"]: row for row in json.loads(hostvm("doctor", name, "--json", env=env).out)}
    assert f"hostvm upgrade {name}" in doctor["image"]["fix"]
    succeed(hostvm("upgrade", name, env=env))
    succeed(hostvm("start", name, env=env))
    assert reads_note(name, env)
