"""Before a command is forwarded: is the machine there, and may it be started for it?

Imports nothing heavy as long as the machine's agent answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.agent.client import agent_is_ready

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths


def ensure_ready(paths: MachinePaths) -> None:
    """Return when forwarding can begin; a machine that went down by itself (a host's reboot) is started first.

    :raises HostvmError: there is no such machine, the user stopped it, or it cannot be started.
    """
    if agent_is_ready(paths.run_dir):
        return
    from hostvm.machines.ahead import look_ahead

    look_ahead(paths)
    from cli import held
    from cli.commands.common import require_machine
    from cli.progress import make_progress
    from hostvm.locks import machine_lock
    from hostvm.machines.boot import require_startable

    require_machine(paths)
    require_startable(paths)  # told at once; whoever has the lock may change it
    with machine_lock(paths):
        if agent_is_ready(paths.run_dir):
            return
        require_machine(paths)
        require_startable(paths)
        held.start(paths, make_progress(quiet=False))
