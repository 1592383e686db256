"""`kill -9` in the midst of `docker build`, of `docker pull` and of the build of a guest image, by rounds.

As in test_kills.py, and the same command does its work the next time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from machines import eventually, hostvm, succeed, unused_port
from rounds import MOMENTS, finish, one_round, rounds_of
from victims import INSIDE, Blow, Command

from images.store import inspect_image, open_image, verify_image

ROUNDS = rounds_of(5)

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(600 + 300 * ROUNDS)]

DOCKERFILE = "FROM busybox\nARG ROUND\nRUN i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i > /$i; sleep 0.1; done\n"
LARGE = "FROM busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=16 && sha256sum /large > /sum\n"


def dockerfile(tmp_path: Path, text: str) -> str:
    """A folder that holds nothing else: it is sent to the guest."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(text)
    return str(folder)


def wait_for(look, command: Command, what: str) -> None:
    """Until it is seen, or the command has ended without it."""
    eventually(lambda: look() or not command.runs(), what, 300)


def begun(command: Command) -> Command:
    """The same, once the engine is at it: the client of an emulated guest takes seconds before it asks for anything."""
    wait_for(command.speaks, command, "it has begun")
    return command


def clients(machine) -> str:
    """Numbers of the clients that run in the guest, without this look's own."""
    return machine.shell("sh", "-c", "pidof docker docker-buildx || true")


@pytest.mark.parametrize("victim", ["command", "agent", "qemu", *INSIDE])
def test_killed_in_the_midst_of_a_build(machine, ledger, record, victim, tmp_path):
    rounds = record(f"{victim} killed in the midst of `docker build`")
    folder = dockerfile(tmp_path, DOCKERFILE)
    words = ["-m", machine.name, "docker", "build", "--progress", "plain", "-t", "built", "--build-arg"]

    def prepare():
        # No two are alike, or it would be there already.
        return begun(Command([*words, f"ROUND={MOMENTS.random()}", folder], tmp_path / "said"))

    for number in range(ROUNDS):
        one_round(machine, ledger, rounds, victim, 5.0, prepare, look=Command.last_line)
        eventually(lambda: not clients(machine), "no client is left in the guest", 30)
        succeed(hostvm(*words, f"ROUND={victim}{number}", folder))
        assert machine.docker("run", "--rm", "built", "cat", "/40") == "40"
    machine.docker("rmi", "built")
    finish(machine, rounds, victim, tmp_path)


@pytest.fixture(scope="module")
def large(faulty, tmp_path_factory):
    """The name of an image that is in the machine's own registry."""
    port = str(unused_port())
    name = f"localhost:{port}/large:1"
    faulty.hostvm("start")
    faulty.hostvm("registry", "start", faulty.name, "--port", port)
    faulty.docker("build", "-q", "-t", name, dockerfile(tmp_path_factory.mktemp("large"), LARGE))
    faulty.docker("push", "-q", name)
    faulty.docker("rmi", name)
    faulty.docker("builder", "prune", "-af")  # what it was built of would be no part of a pull
    yield name
    faulty.hostvm("start")
    faulty.try_docker("rmi", name)
    faulty.hostvm("registry", "rm", "--force", faulty.name)


@pytest.mark.parametrize("victim", ["command", "agent", "qemu", *INSIDE])
def test_killed_in_the_midst_of_a_pull(machine, large, ledger, record, victim, tmp_path):
    rounds = record(f"{victim} killed in the midst of `docker pull`")

    def serves() -> bool:
        told = hostvm("registry", "status", machine.name, "--json").out
        return bool(told) and json.loads(told)["status"] == "running"

    def prepare():
        machine.try_docker("rmi", large)  # of the round before
        eventually(serves, "the registry is up", 90)
        return begun(Command(["-m", machine.name, "docker", "pull", large], tmp_path / "said"))

    for _ in range(ROUNDS):
        one_round(machine, ledger, rounds, victim, 5.0, prepare, look=Command.last_line)
        eventually(serves, "the registry is up", 90)
        eventually(lambda: not clients(machine), "no client is left in the guest", 30)
        machine.docker("pull", large)
        assert machine.docker("run", "--rm", large, "sha256sum", "-c", "/sum") == "/large: OK"
    finish(machine, rounds, victim, tmp_path)


# ---- a guest image, which is made on this computer


@pytest.fixture
def cache(faulty, tmp_path):
    """A cache without images, but with the packages that the machine's own image was made of."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "archive").symlink_to(Path(os.environ["HOSTVM_CACHE"], "archive"))
    return folder


PHASES = {"unpacking": "images/.new-*/*.tar", "packing": "images/.new-*/image/root.erofs"}
"""What is there once a build is in that phase."""


def strike_build(phase: str, command: Command, cache: Path) -> Blow:
    """Kill the command once it is in that phase, at any moment of some seconds."""
    before = set(cache.glob(PHASES[phase]))  # of one that was killed
    wait_for(lambda: set(cache.glob(PHASES[phase])) - before, command, f"the build is {phase}")
    time.sleep(MOMENTS.uniform(0.0, 2.0))  # the moment is what is tried
    late = not command.runs()
    return Blow(command.kill(), phase, late)


def test_killed_in_the_midst_of_a_guest_images_build(cache, record, tmp_path):
    rounds = record("command killed in the midst of `hostvm image build`")
    env = {"HOSTVM_CACHE": str(cache), "TMPDIR": str(tmp_path)}
    for number in range(max(ROUNDS, len(PHASES))):
        command = Command(["image", "build"], tmp_path / "said", env)
        try:
            rounds.blows.append(strike_build(list(PHASES)[number % len(PHASES)], command, cache))
        finally:
            said = command.end()
        assert "Traceback" not in said, said
        rounds.say(said)
        for image in cache.glob("images/sha256/*"):
            verify_image(open_image(image))  # the kill came too late, and what is stored is whole
            shutil.rmtree(image)  # the next round is to build it again
    with rounds.healing():
        succeed(hostvm("image", "build", env=env))
    verify_image(inspect_image(cache, "docker"))
    assert not list(cache.glob("images/.new-*")), "what was half-made is gone"
    rounds.check_hits()
