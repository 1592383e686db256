"""What goes wrong in front of a user: one clear error, what to type next, the right exit status, nothing half-made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from machines import Done, console, eventually, folders_of, hostvm, interrupt, processes_of, started, succeed

pytestmark = pytest.mark.vm


def told(done: Done, status: int, *parts: str) -> None:
    """The error is one `hostvm: ...` line with reason and a way on, not a traceback; nothing is on stdout."""
    assert done.status == status, str(done)
    assert done.out == "", str(done)
    assert done.err.count("hostvm: ") >= 1, str(done)
    assert "Traceback" not in done.err, str(done)
    assert "->" in done.err, f"no next step:\n{done}"
    for part in parts:
        assert part in done.err, f"{part!r} is not told:\n{done}"


def machines() -> set[str]:
    folder = Path(os.environ["HOSTVM_HOME"], "machines")
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def name(unique):
    """A machine's name; whatever a test makes of it is removed."""
    chosen = unique("bad")[:24]
    yield chosen
    hostvm("rm", "--force", chosen)


@pytest.fixture
def made(machine, name):
    """A machine that was made and never started; `machine` has the guest image built by then."""
    succeed(hostvm("create", name, "--memory", "512MiB", "--cpus", "1"))
    return name


@pytest.mark.parametrize("verb", ["stop", "status", "inspect", "env", "logs", "restart", "rm", "upgrade"])
def test_unknown_machine(verb):
    told(hostvm(verb, "nobody"), 1, "no machine called nobody", "hostvm start nobody")


def test_unknown_machine_for_a_forwarded_command():
    told(hostvm("-m", "nobody", "docker", "ps"), 125, "no machine called nobody", "hostvm start nobody")
    told(hostvm("-m", "nobody", "shell", "--", "true"), 125, "no machine called nobody")


@pytest.mark.parametrize("bad", ["Upper", "a/b", "..", "x" * 25, "with space"])
def test_bad_name(bad):
    before = machines()
    told(hostvm("start", bad), 2, f"'{bad}' cannot be a machine's name", "hostvm start")
    assert machines() == before


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--memory", "9999GiB", "more than this computer has"),
        ("--memory", "10MiB", "too little"),
        ("--cpus", "0", "must be from 1 to"),
        ("--cpus", "many", "not a whole number"),
        ("--disk", "10", "needs a unit, for example 10GiB"),
        ("--disk", "1GiB", "too small"),
        ("--driver", "vmware", "auto, qemu, libvirt"),
        ("--accel", "warp", "auto, kvm, hvf, whpx, tcg"),
        ("--engine", "rkt", "docker"),
    ],
)
def test_wrong_option(name, option, value, reason):
    told(hostvm("start", name, option, value), 2, option.strip("-"), value, reason, "hostvm start --help")
    assert name not in machines()


def test_all_wrong_options_are_told_at_once(name):
    told(hostvm("create", name, "--cpus", "0", "--disk", "10"), 2, "cpus: 0", "disk: 10", "2 wrong options")


def test_unknown_option_and_command():
    told(hostvm("start", "--colour", "red"), 2, "--colour", "--help")
    told(hostvm("fly"), 2, "fly", "--help")


def test_unknown_key_in_machine_yaml(made):
    path = folders_of(made)[0] / "machine.yaml"
    path.write_text(path.read_text() + "colour: red\n")
    told(hostvm("start", made), 2, "colour: unknown key", "cpus, memory, disk", str(path))
    listed = json.loads(succeed(hostvm("ls", "--json")))
    assert [entry["status"] for entry in listed if entry["name"] == made] == ["broken"], "a damaged machine is listed"
    path.write_text(path.read_text().replace("colour: red\n", ""))
    assert hostvm("status", made).out, "mended by hand, it is a machine again"


def test_damaged_state_can_be_removed(made):
    (folders_of(made)[0] / "state.json").write_text("{")
    told(hostvm("start", made), 1, "is damaged", f"hostvm rm --force {made}")
    succeed(hostvm("rm", "--force", made))
    assert made not in machines()


def test_unknown_image(name, machine):
    told(hostvm("start", name, "--image", "gentoo"), 1, "gentoo")
    told(hostvm("start", name, "--image", "sha256:" + "0" * 64), 1, "0" * 12)
    assert name not in machines()


def test_qemu_missing(made, tmp_path):
    told(hostvm("start", made, env={"PATH": str(tmp_path)}), 1, "QEMU", "qemu-system-", "install")
    assert not folders_of(made)[1].joinpath("agent.sock").exists()


def test_qemu_of_another_architecture(made, tmp_path):
    """A program that says of itself, in QEMU's own words, that it emulates something else."""
    real = Path(shutil.which("qemu-system-x86_64") or shutil.which("qemu-system-aarch64"))
    fake = tmp_path / real.name
    fake.write_text(f"#!/bin/sh\n{real} \"$@\" | sed -e 's/x86_64/riscv64/g; s/aarch64/riscv64/g'\n")
    fake.chmod(0o755)
    told(hostvm("start", made, env={"HOSTVM_QEMU": str(fake)}), 1, "riscv64")


def test_forward_to_a_stopped_machine(made):
    told(hostvm("-m", made, "docker", "ps"), 125, f"machine {made} is stopped", f"hostvm start {made}")
    told(hostvm("-m", made, "shell", "--", "true"), 125, f"hostvm start {made}")


def test_start_of_a_running_machine_says_so_and_is_no_failure(machine):
    done = hostvm("start", machine.name)
    assert done.status == 0, str(done)
    assert "was running already" in done.err
    refused = hostvm("start", machine.name, "--memory", "1GiB")
    told(refused, 1, "memory: it has 2GiB, given was 1GiB", f"hostvm set --restart {machine.name} memory=1GiB")


def test_removing_a_running_machine_needs_force(machine):
    told(hostvm("rm", machine.name), 1, "is running", f"hostvm stop {machine.name}", "--force")
    assert machine.shell("echo", "still here") == "still here"


def test_a_change_of_nothing(made):
    file = folders_of(made)[0] / "machine.yaml"
    before = file.read_bytes()
    told(hostvm("set", made), 2, "no setting is given", "hostvm set --help")
    done = hostvm("set", made, "cpus=1")
    assert (done.status, done.out, f"machine {made} is so already" in done.err) == (0, "", True), str(done)
    assert file.read_bytes() == before
    told(hostvm("set", made, "cpus=9999"), 2, "cpus: 9999")


def test_creating_a_machine_twice(made):
    told(hostvm("create", made), 1, "exists already", f"hostvm start {made}")


def test_two_names_for_one_machine(made):
    told(hostvm("stop", made, "-m", "other"), 2, made, "other")


def test_mirror_unreachable(tmp_path):
    env = {"HOSTVM_CACHE": str(tmp_path / "cache")}
    done = hostvm("image", "build", "--mirror", "http://127.0.0.1:9/debian", env=env)
    told(done, 1, "127.0.0.1:9", "mirror")
    assert half_made(tmp_path / "cache") == []


def half_made(cache: Path) -> list[Path]:
    """Images, and folders of images being made."""
    return sorted([*cache.glob("images/sha256/*"), *cache.glob("images/.new-*"), *cache.glob("base/.new-*")])


@pytest.fixture
def small_disk(tmp_path):
    """A file system with too little room for an image."""
    place = tmp_path / "small"
    place.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    owner = f"uid={os.getuid()},gid={os.getgid()}"
    mount = [*root, "mount", "-t", "tmpfs", "-o", f"size=60m,{owner}", "hostvm-test", str(place)]
    subprocess.run(mount, check=True, timeout=20)
    yield place
    subprocess.run([*root, "umount", str(place)], check=True, timeout=20)


def test_disk_full_during_a_build(small_disk):
    done = hostvm("image", "build", env={"HOSTVM_CACHE": str(small_disk)})
    told(done, 1, "full", str(small_disk))
    assert half_made(small_disk) == []


def children_of(process: subprocess.Popen[bytes], program: str) -> list[psutil.Process]:
    try:
        found = psutil.Process(process.pid).children(recursive=True)
        return [child for child in found if child.name().startswith(program)]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def packages_there(tmp_path) -> Path:
    """A cache of its own that has packages, but nothing made of them."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "archive").symlink_to(Path(os.environ["HOSTVM_CACHE"], "archive"))
    return cache


@pytest.mark.parametrize(
    ("phase", "seen"), [("unpacking", "images/.new-*/*.tar"), ("packing", "images/.new-*/image/root.erofs")]
)
def test_ctrl_c_during_a_build(machine, packages_there, phase, seen):
    with started("image", "build", env={"HOSTVM_CACHE": str(packages_there)}) as build:
        eventually(lambda: list(packages_there.glob(seen)), f"it is {phase}", 240)
        assert "interrupted" in interrupt(build)
    assert half_made(packages_there) == []


def test_ctrl_c_while_a_builder_guest_runs(machine, packages_there, tmp_path):
    env = {"HOSTVM_CACHE": str(packages_there)}
    with started("image", "base", "debian:trixie", "-o", str(tmp_path / "image.tar"), env=env) as build:
        # The first guest only proves the accelerator.
        eventually((packages_there / "accel.json").exists, "the accelerator is known", 240)
        guests = eventually(lambda: children_of(build, "qemu-system"), "the builder guest runs", 60)
        assert "interrupted" in interrupt(build)
        eventually(lambda: not any(guest.is_running() for guest in guests), "QEMU is gone", 20)
    assert half_made(packages_there) == []
    assert not (tmp_path / "image.tar").exists()


def lives(name: str) -> tuple[str, list[str], str]:
    """What changes with whatever is done to a running machine: its status, its processes, its agent's last word."""
    facts = json.loads(hostvm("status", name, "--json").out)
    processes = [f"{pid} {psutil.Process(pid).create_time()}" for pid in sorted(processes_of(name))]
    return facts["status"], processes, str((facts["agent"] or {}).get("pid"))


def test_ctrl_c_during_start(made, machine, unique):
    """And a start is quiet when it is asked to be, and touches the named machine alone."""
    folder, off = folders_of(made)[0], unique("off")[:24]
    succeed(hostvm("create", off, "--memory", "512MiB", "--cpus", "1"))
    before = [lives(machine.name), lives(off)]
    assert (before[0][0], before[1]) == ("running", ("stopped", [], "None"))
    with started("start", made) as start:
        eventually(lambda: b"hostvm-guest: mark root" in console(folder), "the guest boots", 60)
        interrupt(start)
    assert json.loads(hostvm("status", made, "--json").out)["status"] == "stopped"
    eventually(lambda: not processes_of(made), "QEMU and the agent are gone", 20)
    done = hostvm("start", "--quiet", made)
    assert (done.status, done.both) == (0, "")
    assert succeed(hostvm("-m", made, "shell", "--", "echo", "well")) == "well"
    assert [lives(machine.name), lives(off)] == before
    succeed(hostvm("rm", "--force", off))


def test_help_has_examples():
    for verb in ("start", "stop", "rm", "shell", "logs", "env", "move"):
        done = hostvm(verb, "--help")
        assert done.status == 0
        assert "examples:" in done.out
