"""The files of the three systems' own services: pure functions, compared whole with golden files.

All run `hostvm autostart run NAME`, which stays in the foreground while the machine runs. None starts it again when
it ends: a machine that cannot start is to be told of once, not every second.
"""

from __future__ import annotations

import plistlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from hostvm.platform.words import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The machine's way down takes up to 40 s, and its containers' up to 6 minutes (hostvm.machines.halt).
STOP_SECONDS = 420
_TASKS = "http://schemas.microsoft.com/windows/2004/02/mit/task"


@dataclass(frozen=True, slots=True)
class Login:
    r"""What is to run when the user logs in.

    :param argv: the command with absolute paths.
    :param env: variables it needs beside the session's own; Windows' task has none, see `cli.at_login`.
    :param user: on Windows, DOMAIN\NAME whose login counts.
    """

    machine: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


def unit_name(machine: str) -> str:
    """Of the systemd user unit."""
    return f"hostvm-{machine}.service"


def label(machine: str) -> str:
    """Of the launchd agent."""
    return f"io.hostvm.{machine}"


def task_name(machine: str) -> str:
    """Of the task in Windows' Task Scheduler."""
    return f"hostvm-{machine}"


def systemd_unit(login: Login) -> str:
    """A systemd user unit."""
    lines = [
        "[Unit]",
        f"Description=hostvm machine {login.machine}",
        "",
        "[Service]",
        "Type=exec",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(login.env.items())),
        # "$" is a variable's sign in commands only.
        f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in login.argv)}",
        "Restart=no",
        # Only the command is told; it lets the guest end in order before hypervisor and agent go.
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """As systemd.syntax(7) reads it: % is a specifier's sign, quotes and backslashes are escaped."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'


def launchd_plist(login: Login) -> bytes:
    """A launchd agent."""
    facts = {
        "Label": label(login.machine),
        "ProgramArguments": list(login.argv),
        "EnvironmentVariables": dict(login.env),
        "RunAtLoad": True,
        "KeepAlive": False,
        "ExitTimeOut": STOP_SECONDS,
        "ProcessType": "Interactive",
    }
    return plistlib.dumps(facts)


def task_xml(login: Login) -> bytes:
    """A task of Windows' Task Scheduler, UTF-16 as schtasks wants it."""
    task = ET.Element("Task", version="1.2", xmlns=_TASKS)
    _text(ET.SubElement(task, "RegistrationInfo"), "Description", f"hostvm machine {login.machine}")
    trigger = ET.SubElement(ET.SubElement(task, "Triggers"), "LogonTrigger")
    _text(trigger, "Enabled", "true")
    _text(trigger, "UserId", login.user)
    principal = ET.SubElement(ET.SubElement(task, "Principals"), "Principal", id="Author")
    _text(principal, "UserId", login.user)
    _text(principal, "LogonType", "InteractiveToken")
    _text(principal, "RunLevel", "LeastPrivilege")
    settings = ET.SubElement(task, "Settings")
    for name, value in (
        ("MultipleInstancesPolicy", "IgnoreNew"),
        ("DisallowStartIfOnBatteries", "false"),
        ("StopIfGoingOnBatteries", "false"),
        ("ExecutionTimeLimit", "PT0S"),
        # As of a program that the user starts. A task's usual 7 is less CPU, disk and memory than all others get.
        ("Priority", "5"),
    ):
        _text(settings, name, value)
    command = ET.SubElement(ET.SubElement(task, "Actions", Context="Author"), "Exec")
    program, *words = login.argv
    _text(command, "Command", program)
    _text(command, "Arguments", " ".join(quoted(word, "win32") for word in words))
    ET.indent(task)
    text = '<?xml version="1.0" encoding="UTF-16"?>\n' + ET.tostring(task, encoding="unicode") + "\n"
    return text.encode("utf-16")


def _text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
