"""HOSTVM_HOME on a disk that is full: to the last byte, to two blocks, and so that it fills up in the midst.

Whatever the command: it ends with one error that tells so, leaves nothing half-made, and does its work when there is
room again. What a container was told to be safe is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from machines import HOSTVM, Done, eventually, hostvm, run, running_machine, succeed  # of the e2e tests
from narrow import KIB, MIB, mounted  # beside this file
from other_image import make_image  # of the e2e tests
from writers import Writers, ledger_of  # beside this file

from hostvm.agent.client import agent_status
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    from machines import Machine
    from narrow import Narrow

NAME = f"faults-{os.getpid()}-n"
OTHER = f"{NAME}-2"
SMALL = "--driver qemu --cpus 1 --memory 1GiB --mount none --names off"
SECONDS = 420.0
"""That any of these commands may take; a start that fails has ended after 190."""

MIDST = -1
LEFT = [pytest.param(0, id="0"), pytest.param(8 * KIB, id="8KiB"), pytest.param(MIDST, id="midst")]

pytestmark = [pytest.mark.vm, pytest.mark.faults, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Step:
    """A command.

    :param words: `{n}` is a number that was not used before, `{folder}` is on the full disk.
    :param midst: bytes with which it comes some way.
    :param before: words of what has to be done first, with room; `undo`, afterwards.
    :param apart: with a cache of its own that has packages and no image.
    :param makes: a machine that it leaves, whole, where it failed later.
    :param stops: where it fails in the midst, the machine may be off, or be so when it has gone on.
    :param frees: more than it needs, so that it may succeed without any room.
    """

    words: str
    midst: int
    before: str = ""
    undo: str = ""
    apart: bool = False
    makes: str = ""
    stops: bool = False
    frees: bool = False


RESTORE = Step(
    f"snapshot restore --force -m {NAME} s",
    64 * KIB,
    before=f"snapshot create -m {NAME} s",
    undo=f"snapshot rm -m {NAME} s",
)
OFF = {
    "create": Step(f"create {OTHER} {SMALL}", 64 * KIB, undo=f"rm --force {OTHER}"),
    "first-start": Step(f"start {OTHER} {SMALL}", 7 * MIB, undo=f"rm --force {OTHER}", makes=OTHER),
    "start": Step(f"start {NAME}", 3 * MIB, undo=f"stop {NAME}"),
    "set": Step(f"set {NAME} env.N={{n}}", 4 * KIB),
    "set-disk": Step(f"set {OTHER} disk=5TiB", 16 * KIB, before=f"create {OTHER} {SMALL}", undo=f"rm --force {OTHER}"),
    "clone": Step(f"clone {NAME} {OTHER}", 64 * KIB, undo=f"rm --force {OTHER}"),
    "snapshot-create": Step(f"snapshot create -m {NAME} s", 64 * KIB, undo=f"snapshot rm -m {NAME} s"),
    "snapshot-restore": RESTORE,
    "image-build": Step("image build", 60 * MIB, apart=True),
    "image-import": Step("image import --allow-unsigned {file}", 60 * MIB, apart=True),
    "image-export": Step("image export docker -o {folder}/image.tar", 60 * MIB),
    "upgrade": Step(f"upgrade {NAME} --image {{image}}", 3 * MIB),
}
ON = {
    "set": Step(f"set {NAME} env.N={{n}}", 4 * KIB),
    "set-disk": Step(f"set {NAME} disk={{n}}GiB", 16 * KIB),
    "snapshot-create": Step(f"snapshot create -m {NAME} s", 80 * MIB, undo=f"snapshot rm -m {NAME} s"),
    "snapshot-restore": RESTORE,
    "suspend": Step(f"suspend {NAME}", 80 * MIB),
    "resume": Step(f"resume {NAME}", 64 * KIB, before=f"suspend {NAME}", frees=True),
    "stop": Step(f"stop {NAME}", 1 * MIB, stops=True),
    "upgrade": Step(f"upgrade {NAME} --image {{image}}", 3 * MIB, stops=True),
}


class World:
    """The disk, its machine, and the files beside it.

    :param images: two that the machine can have.
    """

    def __init__(self, narrow: Narrow, machine: Machine, folder: Path, images: tuple[str, str]) -> None:
        self.narrow, self.machine, self.folder, self.images = narrow, machine, folder, images
        self.ledger = Writers(ledger_of(machine))
        self.told: list[int] = []
        self._number = 100

    def words(self, text: str) -> list[str]:
        """Of a command of a step."""
        self._number += 1
        facts = {"n": self._number, "folder": self.narrow.folder, "file": self.folder / "image.tar"}
        if "{image}" in text:
            now = json.loads(succeed(hostvm("inspect", NAME)))["made"]["image"]
            facts["image"] = next(one for one in self.images if one != now)
        return text.format(**facts).split()

    def type(self, words: list[str], step: Step) -> Done:
        """A command, which has to end in time."""
        env = {"HOSTVM_CLIENT": "guest", **({"HOSTVM_CACHE": str(self.narrow.apart)} if step.apart else {})}
        return run(str(HOSTVM), *words, env=env, limit=SECONDS)

    def do(self, text: str, step: Step) -> None:
        """What has to be done beside the step, with room; "" is nothing."""
        if text:
            succeed(self.type(self.words(text), step))

    def status(self) -> str:
        return str(json.loads(hostvm("status", NAME, "--json").out)["status"])

    def audit(self) -> None:
        """The machine goes on, and all that its ledger had told is there."""
        self.machine.hostvm("start")
        eventually(self.ledger.run, "what wrote writes again", 60)
        assert self.ledger.lost(self.told) == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """HOSTVM_HOME and HOSTVM_CACHE are there in this module; packages are those of all tests."""
    shared, folder = Path(os.environ["HOSTVM_CACHE"]), tmp_path_factory.mktemp("full")
    succeed(hostvm("image", "build"))
    succeed(hostvm("image", "export", "docker", "-o", str(folder / "image.tar")))
    with pytest.MonkeyPatch.context() as patch, mounted() as narrow:
        narrow.apart.mkdir()
        shutil.copytree(shared, narrow.cache, ignore=shutil.ignore_patterns("archive", ".*"))
        for cache in (narrow.cache, narrow.apart):
            (cache / "archive").symlink_to(shared / "archive")
        patch.setenv("HOSTVM_HOME", str(narrow.home))
        patch.setenv("HOSTVM_CACHE", str(narrow.cache))
        with running_machine(NAME, *SMALL.split()) as machine:
            machine.hostvm("image", "base", "busybox")
            first = str(json.loads(machine.hostvm("inspect"))["made"]["image"])
            other = make_image(first, "faults-other", "echo other > /root/etc/hostvm-test")
            made = World(narrow, machine, folder, (first, f"sha256:{other.name}"))
            ledger_of(machine).start()
            machine.shell("sync")  # the engine does not wait until what it unpacked is on the disk
            yield made


@pytest.fixture
def off(world):
    """The machine is off."""
    if world.status() != "stopped":
        world.machine.hostvm("start")
        world.told = world.ledger.acknowledged()
        world.machine.hostvm("stop")
    return world


@pytest.fixture
def on(world):
    """The machine runs, and its ledger is written."""
    world.machine.hostvm("start")
    eventually(world.ledger.run, "what writes is there", 60)
    world.told = world.ledger.acknowledged()
    yield world
    world.audit()


def refused(done: Done, status: int = 1) -> None:
    """One error, which tells that the disk is full and what to do."""
    assert done.status == status, str(done)
    assert not re.search("Traceback|defect", done.err), str(done)
    errors = re.findall("^hostvm: .*$", done.err, re.MULTILINE)
    assert len(errors) == 1, str(done)
    told = done.err[done.err.index(errors[0]) :]
    assert re.search("disk is full|no space left|not enough space", told), str(done)
    assert re.search(r"^  (->|  ) [Ff]ree ", told, re.MULTILINE), f"no next step:\n{done}"


def check(world: World, step: Step, left: int) -> None:
    """A step on the full disk, and again when there is room."""
    world.do(step.before, step)
    words, was = world.words(step.words), world.status()
    before = world.narrow.there()
    with world.narrow.full(step.midst if left == MIDST else left):
        done = world.type(words, step)
        after = world.narrow.there()
    if done.status != 0:
        refused(done)
        made = f"home/machines/{step.makes}"
        assert {name: data for name, data in after.items() if not (step.makes and name.startswith(made))} == before
        ends = (was, "stopped") if step.stops else (was,)
        eventually(lambda: world.status() in ends, f"the machine is {was}, as before", 60)
        succeed(world.type(words, step))
    else:
        assert left or step.frees, f"it had no room at all:\n{done}"
    world.do(step.undo, step)
    if step.apart:
        shutil.rmtree(world.narrow.apart / "images")


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("step", [pytest.param(step, id=name) for name, step in OFF.items()])
def test_a_command_while_the_machine_is_off(off, step, left):
    check(off, step, left)


def test_what_was_told_is_there_after_all_of_them(world):
    assert world.told
    world.audit()


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("step", [pytest.param(step, id=name) for name, step in ON.items()])
def test_a_command_while_the_machine_runs(on, step, left):
    check(on, step, left)


@pytest.fixture
def big(on, tmp_path):
    """A folder with what an image of 48 MiB is built of, and that image in a file; the machine has it no more."""
    (tmp_path / "big").write_bytes(os.urandom(48 * MIB))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
    on.machine.docker("build", "-q", "-t", "big", str(tmp_path))
    with (tmp_path / "big.tar").open("wb") as file:
        env = {**os.environ, "HOSTVM_CLIENT": "guest"}
        subprocess.run([HOSTVM, "-m", NAME, "docker", "save", "big"], stdout=file, env=env, check=True)
    (tmp_path / ".dockerignore").write_text("big.tar\n")
    on.machine.docker("image", "rm", "big")
    on.machine.docker("builder", "prune", "-af")
    yield tmp_path
    on.machine.docker("image", "rm", "big")


@pytest.mark.parametrize("verb", ["build", "load"])
def test_a_docker_command_waits_and_is_told_why(on, big, verb):
    """Its machine stands still in the midst of a write; when there is room all goes on as if nothing had been."""
    words = ["build", "-q", "-t", "big", str(big)] if verb == "build" else ["load", "-q"]
    said = big / "said"
    with said.open("wb") as file, (big / "big.tar").open("rb") as tar:
        command = subprocess.Popen(
            [HOSTVM, "-m", NAME, "docker", *words],
            stdin=tar if verb == "load" else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, "HOSTVM_CLIENT": "guest"},
        )
        try:
            run_dir = MachinePaths.of(NAME).run_dir
            eventually(lambda: (agent_status(run_dir) or {}).get("sessions") == 1, "it is under way", 60)
            with on.narrow.full(0):
                eventually(lambda: "stands still: this computer's disk is full" in said.read_text(), "it is told", 90)
                refused(on.type(["-m", NAME, "docker", "ps"], OFF["set"]), 125)
                assert command.poll() is None
            assert command.wait(180) == 0, said.read_text()
        finally:
            command.kill()
            command.wait()
    assert "the machine goes on" in said.read_text()
    assert on.machine.docker("image", "inspect", "-f", "{{.RepoTags}}", "big") == "[big:latest]"
