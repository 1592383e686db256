"""Installing, removing and finding what starts a machine at login, on each system."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
from hostvm.autostart.units import Login, label, launchd_plist, systemd_unit, task_name, task_xml, unit_name
from hostvm.errors import HostvmError
from hostvm.files import write_atomic
from hostvm.own import own_argv, search_path

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a session started by a service manager lacks and hostvm needs, beside Homebrew's PATH: where things are.
_PLACES = ("HOSTVM_HOME", "HOSTVM_CACHE", "HOSTVM_RUN", "HOSTVM_QEMU")
_BOOTED = Path("/run/systemd/system")


def login_of(machine: str) -> Login:
    """What is to run for a machine, with this interpreter and this environment's folders."""
    env = {name: os.environ[name] for name in ("PATH", *_PLACES) if os.environ.get(name)}
    # A relative one counts from this command's folder, which is not where a login's services begin.
    for name in _PLACES:
        if name in env and not env[name].startswith("~"):
            env[name] = str(Path(env[name]).absolute())
    env |= search_path()
    if sys.platform == "win32":
        user = f"{os.environ.get('USERDOMAIN', '.')}\\{getpass.getuser()}"
        return Login(machine, task_argv(own_argv("cli.at_login"), env, machine), user=user)
    return Login(machine, tuple(own_argv("cli.main", "autostart", "run", machine)), env)


def task_argv(own: list[str], env: Mapping[str, str], machine: str) -> tuple[str, ...]:
    """What Windows' task runs: by the interpreter that opens no window, where there is one beside the usual one."""
    program = Path(own[0])
    windowless = program.with_name("pythonw.exe")
    if "PYTHONPATH" in env:  # not installed: the module that sets this could not be found
        own = [own[0], "-P", str(Path(env["PYTHONPATH"], "cli", "at_login.py"))]
    variables = [f"{name}={value}" for name, value in sorted(env.items())]
    return (str(windowless if windowless.is_file() else program), *own[1:], *variables, machine)


def content(login: Login) -> bytes:
    """The file for this system."""
    if sys.platform == "win32":
        return task_xml(login)
    return launchd_plist(login) if sys.platform == "darwin" else systemd_unit(login).encode()


def place(machine: str) -> Path | None:
    """The file's place; None on Windows, which keeps tasks itself."""
    if sys.platform == "win32":
        return None
    if sys.platform == "darwin":
        return Path.home() / "Library" / "LaunchAgents" / f"{label(machine)}.plist"
    return _units() / unit_name(machine)


def install(login: Login) -> None:
    """Start the machine at each login from now on; does not start it now. Idempotent.

    :raises HostvmError: this computer has no systemd, or the system refuses.
    """
    file = place(login.machine)
    if file is None:
        _install_task(login)
        return
    if sys.platform not in ("win32", "darwin") and not _BOOTED.is_dir():
        raise HostvmError(
            "this computer was not started by systemd, so there is nothing that starts machines at login",
            f"{_BOOTED} is missing",
            f"start it from your session's own start-up: hostvm autostart run {login.machine}",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, content(login), mode=0o644)
    if sys.platform != "darwin":
        _link(login.machine).parent.mkdir(parents=True, exist_ok=True)
        _link(login.machine).unlink(missing_ok=True)
        _link(login.machine).symlink_to(file)  # all that `systemctl --user enable` does
        _reload()


def remove(machine: str) -> bool:
    """Start it at login no more; False when it was not. A machine that runs goes on, until its session's end stops it.

    For that systemd needs the unit's file: it forgets how to stop what it has no file of, and would kill the guest. The
    next removal takes the file.
    """
    was = is_installed(machine)
    file = place(machine)
    if file is None:
        if was:
            process.run(["schtasks", "/Delete", "/TN", task_name(machine), "/F"])
        return was
    if sys.platform == "darwin":
        file.unlink(missing_ok=True)
        return was
    _link(machine).unlink(missing_ok=True)
    if not _is_active(machine):
        file.unlink(missing_ok=True)
    if was:
        _reload()
    return was


def is_installed(machine: str) -> bool:
    """Whether it is started at login."""
    file = place(machine)
    if file is None:
        return process.run(["schtasks", "/Query", "/TN", task_name(machine)], check=False).status == 0
    return file.exists() and (sys.platform == "darwin" or _link(machine).exists())


def _install_task(login: Login) -> None:
    with tempfile.TemporaryDirectory(prefix="hostvm-task-") as folder:
        file = Path(folder, "task.xml")
        file.write_bytes(content(login))
        process.run(["schtasks", "/Create", "/TN", task_name(login.machine), "/XML", str(file), "/F"])


def _units() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _link(machine: str) -> Path:
    return _units() / "default.target.wants" / unit_name(machine)


def _is_active(machine: str) -> bool:
    """Whether a user manager that runs has it running."""
    with suppress(HostvmError):
        return (
            process.run(["systemctl", "--user", "is-active", unit_name(machine)], timeout=15, check=False).status == 0
        )
    return False


def _reload() -> None:
    """A user manager that runs is told; one that does not reads the files when it starts."""
    with suppress(HostvmError):
        process.run(["systemctl", "--user", "daemon-reload"], timeout=15)
