"""The thin client: asks the machine's agent for a program in the guest and joins it to this process's descriptors.

Imports next to nothing: the way from the process's start to its request is part of every forwarded command. All that
the session needs (threads, signals, the terminal) is loaded while the guest starts the program.
"""

from __future__ import annotations

import os
import sys

from cli.guest_env import plain_env
from hostvm.agent.client import Agent

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

_IN, _OUT = 0, 1
_ROWS, _COLUMNS = 24, 80
WAIT = 60.0


def forward(
    run_dir: Path | str,
    argv: Iterable[str],
    *,
    tty: bool | None = False,
    stdin: int | None = _IN,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    ready: bool = True,
    wait: float = WAIT,
    notices: bool = False,
    explain: bool = False,
    shown: Callable[[bytes], bytes] | None = None,
) -> int:
    """Run one argv in the guest as if it ran here, and return its exit status (128+n: ended by signal n).

    Standard input, both outputs, Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and 2 and the terminal's size go where
    they belong. A third Ctrl-C leaves the program to its fate (it gets HUP) and returns 130.

    :param run_dir: the machine's; its agent must be there.
    :param tty: give the program a terminal. None: when standard input and output are terminals. With `stdin` the
        user's terminal is raw meanwhile; without it the program only draws on one.
    :param stdin: the descriptor to read input from; None gives the program none and leaves ours alone.
    :param env: variables to add in the guest; None: colours and time zone.
    :param cwd: the folder to be in, if the guest has it; None: this process's.
    :param ready: the whole machine must be ready, not only its ssh.
    :param wait: seconds that it may take to become so.
    :param notices: what the agent has to say meanwhile (a published port is taken) goes to standard error.
    :param explain: so does why the program may have failed, when it has and the agent knows.
    :param shown: what becomes of a piece of output before it is written; None: nothing.
    :raises AgentAbsent: no agent listens.
    :raises AgentNotReady: the machine was not ready in time; nothing was done.
    :raises HostvmError: the command could not be run, or the agent or machine went away.
    :raises BrokenPipeError: the reader of our output left.
    """
    if tty is None:
        tty = os.isatty(_IN) and os.isatty(_OUT)
    size = terminal_size(_OUT) if os.isatty(_OUT) else None
    variables = dict(plain_env(os.environ) if env is None else env)
    if size is not None and not tty:
        variables.setdefault("COLUMNS", str(size[1]))
    request: dict[str, Any] = {
        "argv": list(argv),
        "env": variables,
        "cwd": cwd or _own_folder(),
        "wait": wait,
        "ready": ready,
        "notices": notices,
        "explain": explain,
        "auth_sock": os.environ.get("SSH_AUTH_SOCK"),
    }
    if tty:
        rows, columns = size or terminal_size(_IN)
        request["pty"] = {"term": os.environ.get("TERM") or "xterm", "rows": rows, "columns": columns}
    with Agent(run_dir) as agent:
        agent.ask("exec", **request)
        from cli.session import Session

        agent.answer()
        return Session(agent, stdin, tty=tty, shown=shown).run()


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; 24 and 80 where nobody knows."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return _ROWS, _COLUMNS
    return rows or _ROWS, columns or _COLUMNS


def _own_folder() -> str | None:
    try:
        folder = os.getcwd()  # noqa: PTH109 - no pathlib here
    except OSError:
        return None  # it was deleted meanwhile
    if sys.platform == "win32":
        from hostvm.platform.windows_paths import guest_folder

        return guest_folder(folder)
    return folder
