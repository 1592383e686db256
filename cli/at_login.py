"""What Windows' Task Scheduler runs at login: `python -m cli.at_login NAME=VALUE... MACHINE`.

A task has no environment of its own. And it has no window: one would stand there for as long as the machine runs, and
take that with it when somebody closes it. So there is nowhere to write to, and the last words go to the agent's log.
Where hostvm is not installed this is run as a file, and PYTHONPATH says where the other modules are.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WINDOWLESS, _USUAL = "pythonw.exe", "python.exe"
_MOST = 64 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Set the variables, then start the machine and stay while it runs; the command's exit status."""
    *variables, machine = sys.argv[1:] if argv is None else argv
    os.environ.update((word.partition("=")[0], word.partition("=")[2]) for word in variables)
    sys.path[:0] = [word.partition("=")[2] for word in variables if word.startswith("PYTHONPATH=")]
    folder, program = os.path.split(sys.executable)
    if program.lower() == _WINDOWLESS and os.path.isfile(usual := os.path.join(folder, _USUAL)):  # noqa: PTH113, PTH118
        sys.executable = usual  # agents are as they are without a login
    said = io.BytesIO()
    if sys.stderr is None:
        sys.stdout = sys.stderr = io.TextIOWrapper(said, "utf-8", "backslashreplace", write_through=True)
    from cli.main import main as hostvm  # what it imports looks at the variables

    status = hostvm(["autostart", "run", machine])
    _keep(machine, said.getvalue()[-_MOST:])
    return status


def _keep(machine: str, said: bytes) -> None:
    from hostvm.paths import MachinePaths

    log = MachinePaths.of(machine).agent_log
    if said and log.parent.is_dir():
        with log.open("ab") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} autostart: ".encode() + said)


if __name__ == "__main__":
    sys.exit(main())
