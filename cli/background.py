"""What an agent or a sleeper lets be done for its machine: `python -m cli.background wake|sleep NAME`.

The one ends the agent, the other begins it; so neither can be the agent's own work.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from cli.printer import print_failure
from hostvm.locks import machine_lock
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUSY_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; why it failed goes to standard error, for the log or for a docker client."""
    verb, name = sys.argv[1:] if argv is None else argv
    try:
        {"wake": wake, "sleep": sleep}[verb](MachinePaths.of(name))
    except Exception as fault:  # noqa: BLE001 - the boundary where errors become text
        return print_failure(fault, forwarded=False, verbose=0)
    return 0


def wake(paths: MachinePaths) -> None:
    """Let the machine go on, or start it, as a forwarded command does.

    :raises HostvmError: it cannot, or the user stopped it.
    """
    from cli.commands.common import require_machine
    from cli.contexts import keep_context
    from hostvm.machines.boot import require_startable, start_machine
    from hostvm.spec import load_spec
    from images.progress import NullProgress
    from runtime.engine import find_engine

    progress = NullProgress()
    with machine_lock(paths):
        require_machine(paths)
        require_startable(paths)
        start_machine(paths, progress, find_engine(load_spec(paths.spec).engine))
        keep_context(paths, progress)


def sleep(paths: MachinePaths) -> None:
    """Do what `idle:` in machine.yaml says, unless the machine is in use by now.

    :raises HostvmError: it cannot be done; the machine runs on.
    """
    from hostvm.errors import MachineError
    from hostvm.machines.asleep import InUseError
    from hostvm.spec import load_spec

    settings = load_spec(paths.spec).idle
    try:
        with machine_lock(paths, _BUSY_SECONDS):
            _act(paths, settings.action, float(settings.after))
    except InUseError:
        _tell(f"idle: machine {paths.name} is in use after all")
    except MachineError as fault:
        _tell(f"idle: it stays awake: {fault}".replace("\n", ": "))


def _act(paths: MachinePaths, action: str, after: float) -> None:
    from cli.commands.sleep import container_name
    from hostvm.machines.asleep import hand_over
    from hostvm.machines.halt import stop_machine
    from hostvm.machines.suspend import pause_machine, suspend_machine
    from images.progress import NullProgress

    if action == "suspend":
        suspend_machine(paths, NullProgress(), lambda ident: container_name(paths, ident), after=after)
    elif action == "pause":
        pause_machine(paths, after=after)
    elif action == "stop":
        hand_over(paths, after, stays=True)  # it asks the guest to power off
        stop_machine(paths, NullProgress(), asleep=True)


def _tell(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
