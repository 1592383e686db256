"""Starting a machine's agent, and knowing its process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm import process, process_id
from hostvm.agent import config as settings
from hostvm.agent.client import Agent, request
from hostvm.errors import AgentError, HostvmError
from hostvm.files import tail
from hostvm.own import own_argv, own_env
from hostvm.paths import SLEEPER_SOCK

if TYPE_CHECKING:
    from hostvm.agent.config import AgentConfig

_MODULE = "cli.agent_main"
_SLEEPER = "hostvm.agent.sleeper"
_IN_BACKGROUND = "cli.background"
_SLEEPER_SECONDS = 10.0
_ASK_SECONDS = 2.0
_PAUSE = 0.01


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
        argv = own_argv(_MODULE, config.run_dir)
        agent = process.spawn_detached(argv, Path(config.log), env=own_env())
        settings.store(config, run_dir, agent)


def may_appear(run_dir: Path) -> bool:
    """Whether the process that was started last as this machine's agent lives, or is not known."""
    agent = settings.spawned(run_dir)
    return agent is None or process_id.is_alive(agent)


def is_gone(run_dir: Path, timeout: float) -> bool:
    """Whether the agent's process ends within `timeout` seconds, or none is known."""
    agent = settings.spawned(run_dir)
    return agent is None or process_id.wait_gone(agent, timeout)


def end_process(run_dir: Path, timeout: float) -> None:
    """Wait up to `timeout` seconds for the agent's process to end, then kill it. Idempotent.

    :raises HostvmError: it belongs to another user.
    """
    agent = settings.spawned(run_dir)
    if agent is not None and not process_id.wait_gone(agent, timeout):
        process_id.kill(agent)


def log_tail(run_dir: Path, lines: int) -> str:
    """The last lines of the agent's log."""
    try:
        return tail(Path(settings.load(run_dir).log), lines)
    except HostvmError:
        return ""


def spawn_sleeper(run_dir: Path, log: Path) -> None:
    """Let a new process listen at docker.sock, and return when it does; connections of before stay with the agent.

    :raises HostvmError: it does not listen.
    """
    wake = own_argv(_IN_BACKGROUND, "wake", run_dir.name)
    sleeper = process.spawn_detached(own_argv(_SLEEPER, str(run_dir), *wake), log, env=own_env())
    deadline = time.monotonic() + _SLEEPER_SECONDS
    while not _is(sleeper.pid, sleeper_status(run_dir) or {}):
        if time.monotonic() > deadline or not process_id.is_alive(sleeper):
            process_id.kill(sleeper)
            raise AgentError(
                f"nothing listens for docker clients of machine {run_dir.name}",
                tail(log, 5) or None,
                f"hostvm logs --agent {run_dir.name}",
            )
        time.sleep(_PAUSE)


def _is(pid: int, status: dict[str, Any]) -> bool:
    """Whether the process that was started tells that. On Windows a virtual environment's python.exe is a launcher:
    the interpreter is its child.
    """
    return pid in (status.get("pid"), status.get("parent"))


def sleeper_status(run_dir: Path) -> dict[str, Any] | None:
    """What the machine's sleeper tells of itself; None when there is none."""
    try:
        return _ask_sleeper(run_dir, "status")
    except HostvmError:
        return None


def take_back(run_dir: Path) -> None:
    """The machine is awake: its agent listens at docker.sock, and its sleeper, if there is one, ends. Idempotent.

    :raises HostvmError: its agent does not answer.
    """
    if sleeper_status(run_dir) is not None:
        request(run_dir, "listen")
        end_sleeper(run_dir, wait=False)


def end_sleeper(run_dir: Path, *, wait: bool = True) -> None:
    """Let the machine's sleeper take no more connections. Idempotent.

    :param wait: until it has ended, with the connections that it carries; otherwise it ends with the last of them.
    """
    try:
        facts = _ask_sleeper(run_dir, "shutdown")
    except HostvmError:
        return
    sleeper = process_id.identify(int(facts["pid"]))
    if wait and sleeper is not None and not process_id.wait_gone(sleeper, 2.0):
        process_id.kill(sleeper)


def _ask_sleeper(run_dir: Path, op: str) -> dict[str, Any]:
    with Agent(run_dir, _ASK_SECONDS, SLEEPER_SOCK) as sleeper:
        sleeper.ask(op)
        return sleeper.answer()


def spawn_in_background(verb: str, name: str, log: Path) -> None:
    """Start `hostvm`'s own command for what agents decide, detached: the agent may end before it does."""
    process.spawn_detached(own_argv(_IN_BACKGROUND, verb, name), log, env=own_env())
