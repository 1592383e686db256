"""What an agent or a sleeper lets be done for its machine: `python -m cli.background VERB NAME`.

`sleep` ends the agent and `wake` begins it, so neither can be the agent's own work; `emulate` needs more memory than an
agent is to have.
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

    from hostvm.errors import HostvmError

_BUSY_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; why it failed goes to standard error, for the log or for a docker client."""
    verb, name = sys.argv[1:] if argv is None else argv
    try:
        {"wake": wake, "sleep": sleep, "emulate": emulate}[verb](MachinePaths.of(name))
    except Exception as fault:  # noqa: BLE001 - the boundary where errors become text
        return print_failure(fault, forwarded=False, verbose=0)
    return 0


def wake(paths: MachinePaths) -> None:
    """Let the machine go on, or start it, as a forwarded command does.

    :raises HostvmError: it cannot, or the user stopped it.
    """
    from hostvm.machines.ahead import look_ahead

    look_ahead(paths)
    from cli import held
    from cli.commands.common import require_machine
    from hostvm.machines.boot import require_startable
    from images.progress import NullProgress

    with machine_lock(paths):
        require_machine(paths)
        require_startable(paths)
        held.start(paths, NullProgress())


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


def emulate(paths: MachinePaths) -> None:
    """Have in the running guest what `emulate: auto` stands for, fetched if it is not here. A docker client waits.

    :raises HostvmError: see `provide_emulators`.
    """
    from hostvm.emulate import AUTO, emulated
    from hostvm.emulators import provide_emulators
    from hostvm.paths import cache
    from hostvm.state import load_state
    from images.progress import NullProgress

    arch = load_state(paths).arch
    provide_emulators(paths.run_dir, emulated(AUTO, arch), arch, cache(), NullProgress())


def _act(paths: MachinePaths, action: str, after: float) -> None:
    from cli import held
    from hostvm.machines.asleep import hand_over
    from hostvm.machines.halt import stop_machine
    from hostvm.machines.open import machine_driver
    from hostvm.machines.suspend import UnsavableError, pause_machine
    from hostvm.machines.trial import keep_proven
    from hostvm.spec import load_spec
    from hostvm.state import load_state
    from images.progress import NullProgress

    if action == "suspend":
        try:
            held.suspend(paths, NullProgress(), after=after)
        except UnsavableError as fault:
            _pause_instead(paths, fault, after)
    elif action == "pause":
        pause_machine(paths, after=after)
    elif action == "stop":
        keep_proven(paths, machine_driver(paths, load_state(paths), load_spec(paths.spec)), NullProgress())
        hand_over(paths, after, stays=True)  # it asks the guest to power off
        stop_machine(paths, NullProgress(), asleep=True)


def _pause_instead(paths: MachinePaths, fault: HostvmError, after: float) -> None:
    """The log is told of a reason once, not each time that the machine falls asleep; `status` always tells it."""
    from hostvm.machines.observe import paused_why
    from hostvm.machines.suspend import pause_machine

    why = (fault.details or fault.brief).replace("\n", "; ")
    told = paused_why(paths)
    pause_machine(paths, after=after, why=why)
    if told != why:
        _tell(f"idle: machine {paths.name} is paused, as it cannot be suspended: {why}")


def _tell(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
