"""suspend, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import existing_paths, print_json, say
from cli.progress import make_progress
from hostvm.agent.client import open_engine
from hostvm.errors import HostvmError, MachineError
from hostvm.locks import machine_lock
from hostvm.machines.boot import start_machine
from hostvm.machines.observe import observe
from hostvm.machines.suspend import pause_machine, suspend_machine
from hostvm.spec import load_spec
from runtime.docker.api import EngineApi
from runtime.engine import find_engine

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths


def suspend(options: argparse.Namespace) -> int:
    """Save a machine's memory and end it, or pause it."""
    paths = existing_paths(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        if options.pause:
            text = "is paused" if pause_machine(paths) else "was paused already"
        else:
            seconds = suspend_machine(paths, progress, lambda ident: container_name(paths, ident))
            text = "was suspended already" if seconds is None else f"is suspended after {seconds:.1f} s"
    if options.json:
        return print_json(observe(paths).facts())
    say(options, f"machine {paths.name} {text}; go on with: hostvm resume {paths.name}")
    return 0


def resume(options: argparse.Namespace) -> int:
    """Let a suspended or paused machine go on."""
    paths = existing_paths(options)
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        status = observe(paths).status
        if status in ("stopped", "crashed", "broken"):
            raise MachineError(f"machine {paths.name} is {status}", None, f"start it: hostvm start {paths.name}")
        seconds = start_machine(paths, progress, find_engine(load_spec(paths.spec).engine))
    if options.json:
        return print_json(observe(paths).facts())
    text = "was running already" if seconds is None else f"goes on after {seconds:.1f} s"
    say(options, f"machine {paths.name} {text}")
    return 0


def container_name(paths: MachinePaths, ident: str) -> str:
    """A container's name; its id where the engine does not tell."""
    try:
        found = EngineApi(lambda: open_engine(paths.run_dir), "").call("GET", f"/containers/{ident}/json")
        return str(found["Name"]).lstrip("/")
    except (OSError, ValueError, KeyError, HostvmError):
        return ident[:12]
