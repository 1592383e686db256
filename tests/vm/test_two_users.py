"""Two users of this computer, root and an ordinary one: machines of one name, and what only root may do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from as_user import ROOT, become, copy_for, environment, python_for, python_of  # a helper beside this file

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="makes a user: needs root"),
]
NAME = "both"

# Says which of these places let it in, as a file or as a socket, and how each of the others refused.
KNOCK = """
import socket, sys
for place in sys.argv[1:]:
    for kind in ("file", "socket"):
        try:
            open(place, "rb") if kind == "file" else socket.socket(socket.AF_UNIX).connect(place)
            print(place, kind, "let in")
        except OSError as fault:
            print(place, kind, type(fault).__name__)
"""


class Side:
    """One user and that user's hostvm; everybody may look into the folders above its own."""

    def __init__(self, front: tuple[str, ...], folder: Path, env: dict[str, str], checkout: Path) -> None:
        self._front, self.env, self._checkout = front, {**env, "HOSTVM_CLIENT": "guest"}, checkout
        self.folder = Path(env["HOSTVM_HOME"], "machines", NAME)
        self.run_dir = Path(env["HOSTVM_RUN"], NAME)
        for place in (folder, Path(env["HOSTVM_HOME"]), Path(env["HOSTVM_RUN"]), Path(env["HOSTVM_RUN"]).parent):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)

    def hostvm(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._front, "-m", "cli.main", *words],
            env={**self.env, **env},
            cwd=self._checkout,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def succeed(self, *words: str) -> str:
        done = self.hostvm(*words)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def names(self) -> list[str]:
        return [machine["name"] for machine in json.loads(self.succeed("ls", "--json"))]

    def facts(self) -> dict[str, object]:
        return json.loads(self.succeed("status", NAME, "--json"))

    def boot(self) -> str:
        return self.succeed("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id")

    def processes(self) -> list[psutil.Process]:
        qemu = int((self.run_dir / "qemu.pid").read_text())
        return [psutil.Process(pid) for pid in (qemu, int(self.facts()["agent"]["pid"]))]

    def places(self) -> list[str]:
        """What must be this user's alone: sockets, disk, keys, console, settings."""
        found = [*self.run_dir.iterdir(), *self.folder.iterdir(), *(self.folder / "keys").iterdir()]
        assert {"docker.sock", "agent.sock", "data.qcow2", "machine.yaml"} <= {place.name for place in found}
        return [str(place) for place in found if not place.is_dir()]


@pytest.fixture
def sides(user, image):
    """Root's and the user's, with nothing in it yet."""
    name, home = user
    packages = copy_for(name, home, image)
    env = environment(name, home, image)
    for folder in (env["HOSTVM_HOME"], env["HOSTVM_RUN"]):
        Path(folder).mkdir()
        shutil.chown(folder, name)
    theirs = Side((*become(name), str(python_for(name, home, packages))), home, env, packages["checkout"])
    folder = Path(tempfile.mkdtemp(prefix="hv2-", dir="/tmp"))  # short, for it holds sockets
    own_env = {**os.environ, "HOSTVM_HOME": str(folder / "home"), "HOSTVM_RUN": str(folder / "run")}
    own = Side((sys.executable,), folder, own_env, ROOT)
    yield own, theirs
    for side in (own, theirs):
        side.hostvm("rm", "--force", NAME)
    shutil.rmtree(folder)


def knock(who: tuple[str, ...], python: str, side: Side) -> set[str]:
    """How a stranger was received at everything that is one user's own."""
    done = subprocess.run([*who, python, "-c", KNOCK, *side.places()], capture_output=True, text=True, check=True)
    return {line.rpartition(" ")[2] for line in done.stdout.splitlines()}


def test_machines_of_the_same_name_of_two_users_know_nothing_of_each_other(sides, user, image):
    own, theirs = sides
    options = ("--driver", "qemu", "--mount", "none", "--cpus", "1", "--memory", "1GiB", "--image", image.digest)
    for side in sides:
        side.succeed("start", NAME, *options)
    facts = {side: side.facts() for side in sides}
    assert {one["status"] for one in facts.values()} == {"running"}
    assert [side.names() for side in sides] == [[NAME], [NAME]], "each sees one"
    assert own.boot() != theirs.boot()
    assert facts[own]["ssh_port"] != facts[theirs]["ssh_port"]
    assert facts[own]["docker_host"] != facts[theirs]["docker_host"]
    uid = Path(theirs.folder).stat().st_uid
    assert [{process.uids().real for process in side.processes()} for side in sides] == [{0}, {uid}]

    assert knock(become(user[0]), python_of(user[0]), own) == {"PermissionError"}
    nobody = ("setpriv", "--reuid", "nobody", "--clear-groups")
    assert knock(nobody, python_of("nobody"), theirs) == {"PermissionError"}
    strayed = theirs.hostvm(
        "-m", NAME, "docker", "ps", HOSTVM_HOME=str(own.folder.parent.parent), HOSTVM_RUN=str(own.run_dir.parent)
    )
    assert strayed.returncode == 125
    assert "Permission denied" in strayed.stderr
    assert "Traceback" not in strayed.stderr

    check_names_port(sides)
    boot = own.boot()
    ended = theirs.processes()
    theirs.succeed("rm", "--force", NAME)
    assert [process for process in psutil.wait_procs(ended, timeout=10)[1] if lives(process)] == []
    assert theirs.names() == []
    assert not theirs.folder.exists()
    assert own.names() == [NAME]
    assert own.boot() == boot, "it noticed nothing"
    own.succeed("rm", "--force", NAME)
    assert own.names() == []
    assert not own.run_dir.exists()


@pytest.fixture
def low_ports_closed():
    """To ordinary users, as Linux has them unless told otherwise."""
    setting = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    before = setting.read_text()
    if int(before) < 1024:
        setting.write_text("1024")
    yield
    setting.write_text(before)


def refused_in_a_line(done: subprocess.CompletedProcess[str], *told: str) -> None:
    """A wrong word of the user's: what is wrong is said once, in one line, before what to do."""
    assert done.returncode == 2, str(done)
    lines = [line for line in done.stderr.splitlines() if "cannot be shared" in line]
    assert len(lines) == 1, done.stderr
    assert [word for word in told if done.stderr.count(word) != 1] == [], done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_closed_to_an_ordinary_user_is_refused(sides, image):
    """Wholly, or so that only names are seen: at the start that would make the machine, and at `mount add`."""
    _, theirs = sides
    options = ("--driver", "qemu", "--mount", "none", "--image", image.digest)
    home = Path(theirs.env["HOME"])
    closed = {home / "closed": 0o700, home / "listed": 0o744}
    for folder, mode in closed.items():
        folder.mkdir()
        folder.chmod(mode)
        (folder / "file").write_text("root's")
    for folder in closed:
        refused_in_a_line(
            theirs.hostvm("start", NAME, *options, "--mount", f"{folder}:/x"), str(folder), "Permission denied"
        )
    assert theirs.names() == [], "nothing is made of it"
    theirs.succeed("create", NAME, *options)
    for folder in closed:
        refused_in_a_line(theirs.hostvm("-m", NAME, "mount", "add", str(folder)), str(folder), "Permission denied")
    assert json.loads(theirs.succeed("-m", NAME, "mount", "ls", "--json")) == []


@pytest.mark.usefixtures("low_ports_closed")
def test_a_port_that_an_ordinary_user_may_not_have_is_said_and_the_container_runs(sides, image):
    own, theirs = sides
    options = ("--driver", "qemu", "--mount", "none", "--cpus", "1", "--memory", "1GiB", "--image", image.digest)
    archive = Path(theirs.env["HOME"], "busybox.tar")
    own.succeed("image", "base", "busybox:latest", "-o", str(archive))
    archive.chmod(0o644)
    theirs.succeed("start", NAME, *options)
    theirs.succeed("-m", NAME, "docker", "load", "-q", "-i", str(archive))
    begun = theirs.hostvm("-m", NAME, "docker", "run", "-d", "--name", "web", "-p", "80:80", "busybox", "httpd", "-f")
    assert begun.returncode == 0, begun.stderr
    (line,) = begun.stderr.splitlines()
    assert "port 80" in line or "80/tcp" in line or ":80" in line, line
    assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=80" in line, line
    running = theirs.succeed("-m", NAME, "docker", "inspect", "--format", "{{.State.Running}}", "web")
    assert running == "true\n"


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def check_names_port(sides: tuple[Side, ...]) -> None:
    """One of the two has it, or a third one of this computer; whoever has not is told, and what to type."""
    deadline = time.monotonic() + 20
    while True:
        names = [side.facts()["agent"]["services"]["names"] for side in sides]
        if all(one["held"] or one["taken"] for one in names):
            break
        assert time.monotonic() < deadline, names
        time.sleep(0.2)
    assert len({one["port"] for one in names}) == 1
    assert [one["held"] for one in names].count(True) <= 1
    for side, one in zip(sides, names, strict=True):
        told = side.succeed("status", NAME)
        fix = f"hostvm set --restart {NAME} names={one['port'] + 1}"
        assert (fix in told) == one["taken"], told
