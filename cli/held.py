"""What commands, the agent's background work and programs do to a machine whose lock they hold.

A docker client waits while a machine is woken: what only other verbs need is imported where they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.contexts import keep_context
from hostvm.errors import HostvmError, MachineError
from hostvm.machines.boot import start_machine
from hostvm.machines.halt import stop_machine
from hostvm.spec import load_spec
from hostvm.state import load_state
from runtime.engine import find_engine

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from images.progress import Progress
    from runtime.engine import Engine


def create(paths: MachinePaths, spec: MachineSpec, progress: Progress) -> None:
    """Make the machine without starting it; its image is built or fetched when it is missing.

    :raises MachineError: it exists already.
    """
    from hostvm.guest_images import ensure_image
    from hostvm.machines.create import create_machine

    if paths.folder.exists():  # before the image, which may take minutes
        raise MachineError(f"machine {paths.name} exists already", None, f"start it with: hostvm start {paths.name}")
    paths.check_socket_length()
    create_machine(paths, spec, ensure_image(spec.image, progress, spec.arch))


def engine_of(paths: MachinePaths) -> Engine:
    """The engine that machine.yaml names."""
    return find_engine(load_spec(paths.spec).engine)


def start(
    paths: MachinePaths, progress: Progress, *, discard_state: bool = False, use_context: bool = False
) -> float | None:
    """`start_machine` with the machine's own engine, and its docker context as it is to be.

    A machine that goes with its process has no context: nobody would remove it.

    :param use_context: make the context docker's current one.
    """
    seconds = start_machine(paths, progress, engine_of(paths), discard_state=discard_state)
    if use_context or load_state(paths).owner is None:
        keep_context(paths, progress, use=use_context)
    return seconds


def restart(paths: MachinePaths, progress: Progress) -> float:
    """Stop and start; gives the seconds of the start."""
    stop_machine(paths, progress)
    return start(paths, progress) or 0.0


def suspend(paths: MachinePaths, progress: Progress, *, after: float | None = None) -> float | None:
    """`suspend_machine`, with its containers' names in what it says."""
    from hostvm.machines.suspend import suspend_machine

    return suspend_machine(paths, progress, lambda ident: container_name(paths, ident), after=after)


def container_name(paths: MachinePaths, ident: str) -> str:
    """A container's name; its id where the engine does not tell."""
    from hostvm.agent.client import open_engine
    from runtime.docker.api import EngineApi

    try:
        found = EngineApi(lambda: open_engine(paths.run_dir), "").call("GET", f"/containers/{ident}/json")
        return str(found["Name"]).lstrip("/")
    except (OSError, ValueError, KeyError, HostvmError):
        return ident[:12]
