"""The command line's words for what only looks at machines: ls, status, inspect, logs, env, doctor."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGITS_MOST = 9


def add_look_verbs(verbs: Any, make: Callable[..., argparse.ArgumentParser]) -> None:
    """:param make: adds one verb with what all verbs have."""
    examples = ("hostvm ls", "hostvm ls --json", "hostvm ls -q | xargs -n 1 hostvm stop")
    make(verbs, "ls", "look:ls", "list all machines", *examples, named=False, quiet="names only, one a line")
    make(verbs, "status", "look:status", "what the machine is doing now", "hostvm status", "hostvm status ci --json")
    make(verbs, "inspect", "look:inspect", "everything known of the machine, as JSON", "hostvm inspect ci")
    logs = make(
        verbs,
        "logs",
        "look:logs",
        "the guest's console and the agent's log; those of scripts and of the engine when they are named",
        "hostvm logs --console -n 50",
        "hostvm logs --engine -f",
        "hostvm logs --agent -f",
    )
    logs.add_argument("--console", action="store_true", help="only the guest's serial console")
    logs.add_argument("--agent", action="store_true", help="only the agent's log")
    logs.add_argument("--provision", action="store_true", help="what the scripts of provision: said")
    logs.add_argument("--engine", action="store_true", help="the engine's own log, from a guest that is up")
    logs.add_argument("-n", "--lines", type=_count, default=100, metavar="N", help="the last N lines (default: 100)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines are written; Ctrl-C ends")
    env = make(
        verbs,
        "env",
        "look:env",
        "shell commands that point docker clients at the machine",
        'eval "$(hostvm env)"',
        "hostvm env --shell fish | source",
        "hostvm env --shell powershell | Invoke-Expression",
    )
    env.add_argument("--shell", choices=("sh", "fish", "powershell"), default="sh", help="whose syntax (default: sh)")
    env.add_argument("--unset", action="store_true", help="undo it")
    doctor = make(
        verbs,
        "doctor",
        "doctor:doctor",
        "look at this computer, its hypervisors and the machines: what is wrong and how to mend it",
        "hostvm doctor",
        "hostvm doctor ci --json",
        "hostvm doctor --bundle hostvm-doctor.tar.gz   # for whoever helps",
    )
    doctor.add_argument(
        "--bundle", metavar="FILE", help="write findings, settings and logs into one .tar.gz, secrets masked"
    )


def _count(text: str) -> int:
    """A number of lines."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MOST):
        raise argparse.ArgumentTypeError(f"{text} is no number of lines")
    return int(text)
