"""Starting a machine's agent, and knowing its process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm import process
from hostvm.agent import config as settings
from hostvm.agent.client import request
from hostvm.errors import HostvmError
from hostvm.files import tail
from hostvm.process import ProcessId

if TYPE_CHECKING:
    from hostvm.agent.config import AgentConfig

_MODULE = "cli.agent_main"


def spawn_agent(config: AgentConfig) -> None:
    """Write the agent's settings and start it, detached; returns at once. Nothing happens when one answers.

    Meant to be called right before the hypervisor is: the agent loads its parts while the guest boots.

    :raises HostvmError: the process cannot be started.
    """
    run_dir = Path(config.run_dir)
    try:
        request(run_dir, "ports", timeout=2.0)
    except HostvmError:
        settings.store(config, run_dir)
        argv = [sys.executable, "-m", _MODULE, config.run_dir]
        agent = process.spawn_detached(argv, Path(config.log))
        settings.store(config, run_dir, (agent.pid, agent.started))


def may_appear(run_dir: Path) -> bool:
    """Whether the process that was started last as this machine's agent lives, or is not known."""
    identity = settings.spawned(run_dir)
    return identity is None or process.is_alive(ProcessId(*identity))


def end_process(run_dir: Path, timeout: float) -> None:
    """Wait up to `timeout` seconds for the agent's process to end, then kill it. Idempotent.

    :raises HostvmError: it belongs to another user.
    """
    identity = settings.spawned(run_dir)
    if identity is None:
        return
    agent = ProcessId(*identity)
    if not process.wait_gone(agent, timeout):
        process.kill(agent)


def log_tail(run_dir: Path, lines: int) -> str:
    """The last lines of the agent's log."""
    try:
        return tail(Path(settings.load(run_dir).log), lines)
    except HostvmError:
        return ""
