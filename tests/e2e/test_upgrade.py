"""Another guest image under the same data, and the way back when it does not start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machines import HOSTVM, eventually, folders_of, hostvm, kill_agent, run, succeed
from other_image import make_image

pytestmark = pytest.mark.vm

NEWER = "echo newer > /root/etc/hostvm-test"
BROKEN = r"printf '#!/usr/bin/busybox sh\necho no engine today; exit 3\n' > /root/usr/sbin/dockerd"
HANGS = "exec /bin/busybox sleep 86400"
PANICS = "exit 7"

# `hostvm` that gives the new image's boot 30 s, rather than 180; the former one's has its time.
IMPATIENT = """
from hostvm.machines import agents, boot, upgrade
usual, prove = (agents.BOOT_SECONDS, boot.START_SECONDS), upgrade._prove
def prove_soon(*words):
    agents.BOOT_SECONDS, boot.START_SECONDS = 30.0, 45.0
    try:
        return prove(*words)
    finally:
        agents.BOOT_SECONDS, boot.START_SECONDS = usual
upgrade._prove = prove_soon
from cli.main import entry
entry()
"""


@pytest.fixture(scope="session")
def made_images(_spare_made):
    """`newer` and `broken`, like the machines' own image; gone with the run, since the spare machine stays with one."""
    base = image_of(_spare_made)
    made = {name: make_image(base, f"e2e-{name}", step) for name, step in (("newer", NEWER), ("broken", BROKEN))}
    yield {name: f"sha256:{folder.name}" for name, folder in made.items()}
    for folder in made.values():
        shutil.rmtree(folder)


@pytest.fixture
def made_image(spare):
    """`made_image("hangs", HANGS)` is one more, for a single test."""
    first, made = image_of(spare), []

    def make(name: str, step: str) -> str:
        made.append(make_image(first, f"e2e-{name}", step))
        return f"sha256:{made[-1].name}"

    yield make
    hostvm("upgrade", spare.name, "--image", first)  # a test that failed may have left it with one that goes
    for folder in made:
        shutil.rmtree(folder)


def image_of(machine) -> str:
    return str(json.loads(machine.hostvm("inspect"))["made"]["image"])


def told(machine, *words: str) -> dict[str, object]:
    return dict(json.loads(machine.hostvm("upgrade", "--json", *words)))


def test_an_upgrade_keeps_data_and_a_broken_image_is_rolled_back(spare, made_images):
    first = image_of(spare)
    write(spare)
    yaml = folders_of(spare.name)[0] / "machine.yaml"
    yaml.write_text(yaml.read_text().replace("image: docker\n", "image: docker  # mine\n"))
    assert told(spare, "--image", "docker", "--check")["status"] == "current"
    assert told(spare, "--image", made_images["newer"], "--check") == {
        "name": spare.name,
        "status": "available",
        "before": first,
        "after": made_images["newer"],
        "newer_packages": 0,
        "security": 0,
    }
    done = told(spare, "--image", made_images["newer"])
    assert (done["status"], done["before"], done["after"]) == ("upgraded", first, made_images["newer"])
    assert spare.shell("cat", "/etc/hostvm-test") == "newer"
    keeps(spare)
    assert f"image: {made_images['newer']}  # mine\n" in yaml.read_text()
    # Of an upgrade the former image is kept, and of the machine its own.
    doomed = json.loads(succeed(hostvm("image", "prune", "--dry-run", "--json", "--all")))["removed"]
    assert not {Path(item["path"]).name for item in doomed} & {first[7:], made_images["newer"][7:]}

    failed = hostvm("upgrade", spare.name, "--image", made_images["broken"])
    assert failed.status == 1
    for part in (
        f"was not upgraded to image {made_images['broken'][7:19]}",
        "the container engine does not start",
        "dockerd ended 3 times before it was up, the last time with status 3",
        "no engine today",
        f"its image is {made_images['newer'][7:19]} again, its data are kept, and it runs again",
        "console.log.1",
    ):
        assert part in failed.err, failed
    assert image_of(spare) == made_images["newer"]
    assert f"image: {made_images['newer']}  # mine\n" in yaml.read_text()
    assert spare.shell("cat", "/etc/hostvm-test") == "newer"
    keeps(spare)
    assert "dockerd ended 3 times" in (folders_of(spare.name)[0] / "console.log.1").read_text(errors="replace")


def test_an_upgrade_whose_command_is_killed_in_mid_trial_is_given_up_by_the_next_start(spare, made_images):
    first, broken = image_of(spare), made_images["broken"]
    write(spare)
    words = (HOSTVM, "upgrade", spare.name, "--image", broken)
    command = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: boots(spare, broken), "the new image is being booted", 120)
    finally:
        command.kill()
        command.wait()
    told = hostvm("status", spare.name).out
    assert f"to image {broken[7:19]} was broken off" in told
    assert f"has image {first[7:19]} again" in told

    done = hostvm("start", spare.name)
    assert done.status == 0, done
    assert f"to image {broken[7:19]} was broken off; its image is {first[7:19]} again" in done.err, done
    made = json.loads(spare.hostvm("inspect"))["made"]
    assert (made["image"], made["trial"]) == (first, None)
    eventually(lambda: spare.state("comes-back") == "running", "the container runs again", 60)
    keeps(spare)
    assert "was broken off" not in hostvm("start", spare.name).err


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("step", "shown"), [(HANGS, "said nothing on its console"), (PANICS, "console.log.1")], ids=["hangs", "panics"]
)
def test_an_image_that_never_gets_to_its_services_is_rolled_back_at_the_deadline(spare, made_image, step, shown):
    first = image_of(spare)
    write(spare)
    lame = made_image("lame", step)
    words = (sys.executable, "-c", IMPATIENT, "upgrade", spare.name, "--image", lame)
    failed = run(*words, env={"HOSTVM_CLIENT": "guest"})
    assert failed.status == 1, failed
    for part in (
        f"was not upgraded to image {lame[7:19]}",
        f"its image is {first[7:19]} again, its data are kept, and it runs again",
        shown,
    ):
        assert part in failed.err, failed
    if step == PANICS:
        assert "Kernel panic" in (folders_of(spare.name)[0] / "console.log.1").read_text(errors="replace")
    assert image_of(spare) == first
    keeps(spare)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.name == "nt", reason="QEMU's states are not saved on Windows")
def test_a_suspended_machine_is_upgraded_and_runs(spare, made_image):
    """Its containers end in order first; its memory is the former image's."""
    first, newer = image_of(spare), made_image("newer-2", NEWER)
    write(spare)
    last = "trap 'echo last > /last; exit' TERM; echo ready; while :; do sleep 0.1; done"
    spare.docker("run", "-d", "--name", "leaving", "busybox", "sh", "-c", last)
    eventually(lambda: spare.docker("logs", "leaving") == "ready", "it runs")
    spare.hostvm("suspend")
    done = told(spare, "--image", newer)
    assert (done["status"], done["before"], done["after"]) == ("upgraded", first, newer)
    assert not list(folders_of(spare.name)[0].glob("suspended.*"))
    assert spare.shell("cat", "/etc/hostvm-test") == "newer"
    keeps(spare)
    assert spare.docker("cp", "leaving:/last", "-").find("last\n") > 0
    spare.docker("rm", "leaving")
    assert told(spare, "--image", first)["status"] == "upgraded"
    keeps(spare)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_agent_that_is_killed_in_mid_trial_leaves_the_former_image(spare, made_image):
    first, newer = image_of(spare), made_image("newer-3", NEWER)
    write(spare)
    words = (HOSTVM, "upgrade", spare.name, "--image", newer)
    command = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        eventually(lambda: boots(spare, newer), "the new image is being booted", 120)
        kill_agent(spare)
        said = command.communicate(timeout=300)[1].decode()
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 1, said
    for part in (
        f"was not upgraded to image {newer[7:19]}",
        f"the agent of machine {spare.name} ",
        f"its image is {first[7:19]} again",
    ):
        assert part in said, said
    assert image_of(spare) == first
    assert json.loads(hostvm("status", spare.name, "--json").out)["status"] == "running"
    keeps(spare)
    assert told(spare, "--image", newer)["status"] == "upgraded", "the image was not to blame"
    assert told(spare, "--image", first)["status"] == "upgraded"


def write(machine) -> None:
    """What an upgrade has to keep: a file, and a container that restarts by itself."""
    machine.docker("run", "--name", "written", "busybox", "sh", "-c", "echo kept > /note")
    options = ("--restart", "unless-stopped", "--stop-signal", "KILL", "--name", "comes-back")
    machine.docker("run", "-d", *options, "busybox", "sleep", "3603")


def boots(machine, image: str) -> bool:
    seen = json.loads(hostvm("status", machine.name, "--json").out)
    return (seen["image"], seen["status"]) == (image, "starting")


def keeps(machine) -> None:
    assert machine.docker("cp", "written:/note", "-").find("kept") > 0
    assert machine.state("comes-back") == "running"
