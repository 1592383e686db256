"""Files of a machine that are damaged, foreign, stale or far away: one clear error, nothing lost, a way on.

But for the copied home none of these boots a guest. Wrong settings are in tests/e2e/test_bad_input.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from machines import HOSTVM, flip_bit, folders_of, hostvm, run, succeed

pytestmark = pytest.mark.vm

SIZE, TABLES = 24, 40
"""Places in a qcow2's header."""


def refused(done, *parts: str) -> None:
    assert done.status not in (0, None), str(done)
    assert "Traceback" not in done.err, str(done)
    assert "->" in done.err, f"no next step:\n{done}"
    for part in parts:
        assert part in done.err, f"{part!r} is not told:\n{done}"


def is_listed(name: str) -> str:
    return next(row["status"] for row in json.loads(succeed(hostvm("ls", "--json"))) if row["name"] == name)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "is damaged"),
        ("cut", "is damaged"),
        ("typed", 'ssh_port: "x" is not a port\'s number'),
        ("future", "was made by a newer hostvm"),
        ("other", "is that of machine somebody-else"),
    ],
)
def test_a_state_that_cannot_be_used(made, kind, said):
    name, folder = made
    path = folder / "state.json"
    whole = path.read_text()
    path.write_text(
        {
            "empty": "",
            "cut": whole[: len(whole) // 2],
            "typed": json.dumps(json.loads(whole) | {"ssh_port": "x"}),
            "future": whole.replace('"version": 1', '"version": 99'),
            "other": whole.replace(name, "somebody-else"),
        }[kind]
    )
    for verb in ("start", "stop", "upgrade"):
        refused(hostvm(verb, name), said)
    assert is_listed(name) == "broken"
    path.write_text(whole)
    assert is_listed(name) == "stopped", "mended by hand, it is a machine again"


@pytest.mark.parametrize("kind", ["folder", "bytes"])
def test_a_settings_file_that_cannot_be_read(made, kind):
    name, folder = made
    path = folder / "machine.yaml"
    whole = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\x00")
    refused(hostvm("start", name), "machine.yaml cannot be read", f"correct it in: {path}")
    assert is_listed(name) == "broken"
    path.rmdir() if kind == "folder" else path.unlink()
    path.write_bytes(whole)
    assert is_listed(name) == "stopped"


@pytest.mark.parametrize("place", [0, SIZE, TABLES])
def test_a_data_disk_whose_header_is_damaged_is_never_formatted(made, place):
    """Its magic number, its size, and the places of its tables."""
    name, folder = made
    disk = folder / "data.qcow2"
    with disk.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)
    before = disk.read_bytes()
    done = hostvm("start", name)
    refused(
        done, "data.qcow2", "qemu-img check -r all" if place >= TABLES else "not a qcow2" if place == 0 else "smaller"
    )
    assert disk.read_bytes() == before, "it was left as it is"
    found = {row["name"]: row for row in json.loads(hostvm("doctor", name, "--json").out) if row["area"] == name}
    assert found["disk"]["level"] == "fail"
    assert "qemu-img check -r all" in found["disk"]["fix"]


def test_an_image_with_one_bit_changed_is_found_and_can_be_replaced(made, tmp_path):
    name, folder = made
    cache = tmp_path / "cache"
    digest = json.loads((folder / "state.json").read_text())["image"].removeprefix("sha256:")
    there = Path(os.environ["HOSTVM_CACHE"], "images", "sha256", digest)
    copy = cache / "images" / "sha256" / digest
    shutil.copytree(there, copy)
    env = {"HOSTVM_CACHE": str(cache)}
    flip_bit(copy / "root.erofs")
    found = {row["name"]: row for row in json.loads(hostvm("doctor", name, "--json", env=env).out)}
    assert found["image"]["level"] == "fail"
    assert "root.erofs was changed" in found["image"]["found"]
    assert f"hostvm image rm {digest[:12]}" in found["image"]["fix"]
    removed = hostvm("image", "rm", digest, env=env)
    assert (removed.status, "it was damaged" in removed.err) == (0, True), removed
    # A sound one that a machine needs stays.
    refused(hostvm("image", "rm", digest), "is in use", f"hostvm upgrade {name}")


def test_a_start_refuses_an_image_with_one_bit_changed(made, tmp_path):
    name, folder = made
    cache = tmp_path / "cache"
    digest = json.loads((folder / "state.json").read_text())["image"].removeprefix("sha256:")
    there = Path(os.environ["HOSTVM_CACHE"])
    copy = cache / "images" / "sha256" / digest
    shutil.copytree(there / "images" / "sha256" / digest, copy)
    for known in ("accel.json", "firmware"):  # so that no accelerator is tried out, which is a boot
        if (there / known).is_file():
            shutil.copyfile(there / known, cache / known)
        elif (there / known).is_dir():
            shutil.copytree(there / known, cache / known)
    for file in ("root.erofs", "initramfs"):
        flip_back = flip_bit(copy / file)
        for _ in range(2):
            refused(
                hostvm("start", name, env={"HOSTVM_CACHE": str(cache)}),
                f"image {digest[:12]} is damaged",
                f"{file} was changed",
                f"hostvm image rm {digest[:12]} && hostvm upgrade {name}",
            )
            assert is_listed(name) == "stopped"
        flip_back()
    assert not (cache / "checked-images.json").exists(), "nothing was found sound"


def test_what_other_programs_left_in_the_run_folder_is_no_machine(made):
    """Sockets nobody listens on, and numbers of processes that are somebody else's by now."""
    name, folder = made
    run_dir = folders_of(name)[1]
    run_dir.mkdir(parents=True, exist_ok=True)
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        for file in ("qmp.sock", "agent.sock", "docker.sock"):
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(run_dir / file))
        (run_dir / "qemu.pid").write_text(f"{bystander.pid}\n")
        (run_dir / "agent.json").write_text(json.dumps({"process": [bystander.pid, 1.0]}))
        (run_dir / "agent.lock").touch()
        lock = folder.parent.parent / "locks" / f"{name}.holder"
        lock.write_text("process 1: start\n")
        assert is_listed(name) == "stopped"
        succeed(hostvm("stop", "--force", name))
        assert bystander.poll() is None, "a process that is not ours was ended"
        assert is_listed(name) == "stopped"
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.faults
def test_a_copied_home_does_not_take_the_other_ones_machine_for_its_own(machine, tmp_path):
    home = tmp_path / "home"
    name, (folder, _) = machine.name, folders_of(machine.name)
    copy = home / "machines" / name
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copytree(file, copy / file.name) if file.is_dir() else shutil.copyfile(file, copy / file.name)
    env = {"HOSTVM_HOME": str(home)}
    boot = machine.boot_id()
    for verb in (("stop",), ("start",), ("restart",), ("suspend",)):
        refused(hostvm(*verb, name, env=env), f"another machine called {name} runs", "HOSTVM_RUN=")
    succeed(hostvm("rm", "--force", name, env=env))
    assert not copy.exists()
    assert machine.boot_id() == boot, "the machine that runs noticed nothing"


@contextlib.contextmanager
def read_only(home: Path):
    """Gives `hostvm` as typed where HOSTVM_HOME is read-only: by a mount of its own; without root's rights by modes."""
    if os.geteuid() == 0:
        mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        yield lambda *words: run("unshare", "-m", "sh", "-c", mount, str(home), str(HOSTVM), *words)
        return
    modes = {path: path.stat().st_mode for path in (home, home / "locks", *(home / "locks").iterdir())}
    try:
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        yield hostvm
    finally:
        for path, mode in modes.items():
            path.chmod(mode & 0o777)


def test_a_read_only_home_can_be_looked_at_and_changes_are_refused(made):
    name, folder = made
    (folder / "console.log").write_text("what it said\n")
    home = folder.parent.parent
    before = (folder / "state.json").read_bytes()
    with read_only(home) as look:
        rows = json.loads(succeed(look("ls", "--json")))
        assert {row["name"]: row["status"] for row in rows}[name] == "stopped"
        assert json.loads(look("status", name, "--json").out)["status"] == "stopped"
        assert json.loads(succeed(look("inspect", name)))["faults"] == []
        assert "what it said" in succeed(look("logs", "--console", name))
        for words in (
            ("start", name),
            ("stop", name),
            ("suspend", name),
            ("set", name, "cpus=1"),
            ("rm", "--force", name),
            ("create", f"{name}-2"),
            ("snapshot", "create", "-m", name, "one"),
        ):
            refused(look(*words), "HOSTVM_HOME ", f": {home}", "sudo ")
    assert (folder / "state.json").read_bytes() == before
    assert is_listed(name) == "stopped"


@pytest.mark.faults
def test_a_machine_that_runs_is_used_while_its_home_is_read_only(machine):
    boot = machine.boot_id()
    with read_only(folders_of(machine.name)[0].parent.parent) as look:
        assert "CONTAINER ID" in succeed(look("-m", machine.name, "docker", "ps"))
        assert json.loads(succeed(look("status", machine.name, "--json")))["status"] == "running"
        refused(look("stop", machine.name), "HOSTVM_HOME ", "commands in a machine that runs")
    assert machine.boot_id() == boot


def test_a_long_home_is_no_hindrance(tmp_path):
    home = tmp_path / ("h" * 120) / ("o" * 100)
    env = {"HOSTVM_HOME": str(home)}
    name = f"faults-{os.getpid()}-l"
    succeed(hostvm("create", name, "--memory", "512MiB", "--mount", "none", env=env))
    assert json.loads(hostvm("doctor", name, "--json", env=env).out)[0]["level"] == "ok"
    succeed(hostvm("rm", "--force", name, env=env))
    far = {"HOSTVM_RUN": str(tmp_path / ("r" * 100))}
    refused(hostvm("create", name, env=far), "the path of the machine's sockets is too long", "export HOSTVM_RUN=")
