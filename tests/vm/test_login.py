"""A machine that is started at login, by a real user manager of systemd, and stopped in order at logout.

The manager is an ordinary user's, whom the test makes. Where systemd has not started this computer it sees, in a
namespace of mounts of its own, the folder by which it knows that it has.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from as_user import become, copy_for, environment, python_for  # a helper beside this file

MANAGER = Path("/lib/systemd/systemd")
HIERARCHIES = [Path("/sys/fs/cgroup", name) for name in ("systemd", "unified")]
NAME = "login"

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="makes a user: needs root"),
    pytest.mark.skipif(not MANAGER.exists() or not shutil.which("unshare"), reason="no user manager of systemd here"),
]

# What it is told is: the folder that tells a booted systemd, its control group's folders, the rest of the words.
ENTER = """\
set -e
mount --make-rprivate /
[ -d /run/systemd/system ] || { mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; mkdir /run/systemd/system; }
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


def eventually(look, what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.3)


class Account:
    """The user, who logs in and out."""

    def __init__(self, name: str, python: Path, checkout: Path, env: dict[str, str], groups: list[Path]) -> None:
        self._name, self._python, self._checkout, self.env, self._groups = name, python, checkout, env, groups
        self._manager: subprocess.Popen[bytes] | None = None

    def log_in(self) -> None:
        """A manager that starts what a login starts."""
        words = [*map(str, self._groups), "--", *become(self._name), str(MANAGER), "--user"]
        self._manager = subprocess.Popen(["unshare", "-m", "sh", "-c", ENTER, "enter", *words], env=self.env)
        eventually(
            lambda: self.systemctl("is-system-running").stdout.strip() in ("running", "degraded"), "it is up", 60
        )

    def log_out(self) -> None:
        """As the last session's end: every unit is told to stop, and waited for."""
        self._manager.terminate()
        assert self._manager.wait(120) == 0

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run("systemctl", "--user", *words)

    def hostvm(self, *words: str) -> str:
        done = self._run(str(self._python), "-m", "cli.main", *words)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> str:
        done = self._run(str(self._python), "-m", "cli.main", "status", NAME, "--json")
        return str(json.loads(done.stdout)["status"])

    def unit(self, fact: str) -> str:
        """What the manager knows of the machine's unit."""
        return self.systemctl("show", "--value", "-p", fact, f"hostvm-{NAME}.service").stdout.strip()

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        # In the manager's view, as everything of a session is.
        front = ("nsenter", "-m", "-t", str(self._manager.pid)) if self._manager else ()
        return subprocess.run(
            [*front, *become(self._name), *words],
            env=self.env,
            cwd=self._checkout,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def end(self) -> None:
        if self._manager and self._manager.poll() is None:
            self._manager.kill()
            self._manager.wait()
        self._manager = None
        self._run(str(self._python), "-m", "cli.main", "rm", "--force", NAME)


def members(groups: list[Path]) -> set[int]:
    """What runs in control groups and in those within."""
    lists = [file for folder in groups for file in folder.rglob("cgroup.procs")]
    return {int(pid) for file in lists for pid in file.read_text().split()}


@pytest.fixture
def groups(user):
    """A control group that the user may divide, in each hierarchy that systemd has of its own."""
    name, _ = user
    made = [above / name for above in HIERARCHIES if above.is_dir()] or [Path("/sys/fs/cgroup", name)]
    for folder in made:
        folder.mkdir()
        for path in (folder, *folder.glob("cgroup.*")):
            with contextlib.suppress(OSError):  # some are root's alone
                shutil.chown(path, name)
    yield made
    for pid in members(made):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not members(made), "nothing of it is left", 20)
    for folder in made:
        for inner in sorted(folder.rglob("*/"), reverse=True):
            if inner.is_dir():
                inner.rmdir()
        folder.rmdir()


@pytest.fixture
def account(user, groups, image):
    name, home = user
    packages = copy_for(name, home, image)
    python = python_for(name, home, packages)
    made = Account(name, python, packages["checkout"], environment(name, home, image), groups)
    yield made
    made.end()


def test_a_machine_starts_at_login_and_stops_in_order_at_logout(account, image):
    account.log_in()
    options = ("--driver", "qemu", "--mount", "none", "--cpus", "1", "--memory", "1GiB", "--image", image.digest)
    account.hostvm("create", NAME, *options)
    account.hostvm("autostart", "enable", NAME)
    assert account.systemctl("is-enabled", f"hostvm-{NAME}.service").stdout.strip() == "enabled"
    assert (account.unit("ActiveState"), account.status()) == ("inactive", "stopped"), "not before the next login"
    account.log_out()

    account.log_in()
    eventually(lambda: account.status() == "running", "the login has started it")
    assert account.unit("ActiveState") == "active"
    account.hostvm("-m", NAME, "docker", "info")
    boot = account.hostvm("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id")
    account.hostvm("-m", NAME, "shell", "--", "sh", "-c", "echo kept > /root/note")

    account.hostvm("stop", NAME)
    eventually(lambda: account.unit("ActiveState") == "inactive", "who kept it ends with it")
    assert (account.unit("Result"), account.unit("NRestarts")) == ("success", "0"), "and is not begun again"
    assert account.systemctl("start", f"hostvm-{NAME}.service").returncode == 0
    eventually(lambda: account.status() == "running", "a unit that is started by hand starts it")
    assert account.hostvm("-m", NAME, "shell", "--", "cat", "/root/note") == "kept\n"
    assert account.hostvm("-m", NAME, "shell", "--", "cat", "/proc/sys/kernel/random/boot_id") != boot

    account.log_out()
    account.log_in()  # its status is asked within a session
    eventually(lambda: account.status() == "running", "the next login starts it again")
    assert account.hostvm("-m", NAME, "shell", "--", "cat", "/root/note") == "kept\n"
    account.hostvm("autostart", "disable", NAME)
    assert (account.unit("ActiveState"), account.status()) == ("active", "running"), "one that runs goes on"
    account.log_out()

    account.log_in()
    assert (account.unit("ActiveState"), account.status()) == ("inactive", "stopped"), "until the session's end"
    account.hostvm("autostart", "disable", NAME)
    assert account.unit("LoadState") == "not-found"


def test_a_machine_that_cannot_start_is_tried_once(account, image):
    account.log_in()
    account.hostvm("create", NAME, "--driver", "qemu", "--mount", "none", "--image", image.digest)
    account.hostvm("autostart", "enable", NAME)
    yaml = Path(account.env["HOSTVM_HOME"], "machines", NAME, "machine.yaml")
    yaml.write_text("memory: none of it\n")
    account.log_out()

    account.log_in()
    eventually(lambda: account.unit("ActiveState") == "failed", "it has failed", 60)
    time.sleep(5)  # by then one that is begun again would have been
    assert (account.unit("ActiveState"), account.unit("NRestarts")) == ("failed", "0")
