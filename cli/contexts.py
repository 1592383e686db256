"""Docker contexts in step with the machines: made and set right at a start, gone with the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.printer import tell
from hostvm import paths as places
from hostvm.agent.client import docker_host
from hostvm.errors import ForwardError, HostvmError
from runtime.docker.contexts import MachineContext, docker_config

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths
    from images.progress import Progress


def machine_context(paths: MachinePaths) -> MachineContext:
    """The machine's context in this user's docker settings."""
    return MachineContext(docker_config(), paths.name, places.home())


def keep_context(paths: MachinePaths, progress: Progress, *, use: bool = False) -> None:
    """Write the machine's context, and make it the one in use when that is asked for.

    It is a convenience: what hinders it is told as a note and fails nothing, unless it was asked for.

    :raises HostvmError: `use` is wanted and cannot be had.
    """
    context = machine_context(paths)
    try:
        context.write(docker_host(paths.run_dir))
        if use:
            use_context(context)
    except ForwardError:
        if use:
            raise  # no docker client of this system could follow it
    except HostvmError as fault:
        if use:
            raise
        progress.note(f"{fault.brief}: it was left alone ({context.path})")
    except OSError as fault:
        if use:
            raise
        progress.note(f"docker context {context.name} was not written: {fault}")


def use_context(context: MachineContext) -> None:
    """Make it docker's current one, and say so when the environment overrules it.

    :raises HostvmError: docker's settings are damaged.
    """
    context.use()
    overruled = [name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if os.environ.get(name)]
    if overruled:
        tell(f"hostvm: {overruled[0]} is set here and goes before any context: unset {overruled[0]}")


def drop_context(paths: MachinePaths, progress: Progress) -> None:
    """The machine is gone: so is its context. Trouble is told and fails nothing."""
    context = machine_context(paths)
    try:
        context.remove()
    except HostvmError as fault:
        progress.note(f"{fault.brief}: {fault.details}")
    except OSError as fault:
        progress.note(f"docker context {context.name} was not removed: {fault}")
