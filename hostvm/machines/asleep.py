"""The moment between an agent and a machine's sleep: who listens at docker.sock, and is the machine idle at all?"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hostvm.agent.client import end_agent, request
from hostvm.agent.config import load as load_config
from hostvm.agent.spawn import end_sleeper, spawn_sleeper, take_back
from hostvm.errors import HostvmError, MachineError
from hostvm.spec import load_spec

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths


class InUseError(MachineError):
    """A machine that was to sleep when idle is in use."""


def hand_over(paths: MachinePaths, after: float | None = None, *, stays: bool = False) -> None:
    """End the agent of a machine that goes to sleep; from then on the first client of docker.sock wakes it.

    The sleeper has the socket before the agent is asked, so that no client comes too late for the one and too soon
    for the other. With `autostart: false` nobody listens.

    :param after: only when the machine has been idle for so many seconds.
    :param stays: the agent takes nothing new, but is needed a moment longer.
    :raises InUseError: it has not; all is as it was.
    :raises HostvmError: no sleeper can be started; all is as it was.
    """
    wakes = load_spec(paths.spec).autostart and load_config(paths.run_dir).docker_api
    try:
        if wakes:
            spawn_sleeper(paths.run_dir, paths.agent_log)
        if after is not None:
            _leave(paths, after, stays=stays)
    except BaseException:
        with suppress(HostvmError):
            take_back(paths.run_dir)
        end_sleeper(paths.run_dir, wait=False)
        raise
    if not stays:
        end_agent(paths.run_dir)


def _leave(paths: MachinePaths, after: float, *, stays: bool) -> None:
    if not request(paths.run_dir, "leave", after=after, stays=stays)["left"]:
        raise InUseError(f"machine {paths.name} is in use", None, f"hostvm suspend {paths.name}")
