"""run: a command of this computer with a machine's engine; the machine may be one made for it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.api import Machine
from cli.commands.common import existing_paths
from cli.commands.life import wanted_settings
from cli.host_client import OTHER_ENGINE
from cli.progress import make_progress
from cli.ready import ensure_ready
from hostvm import process
from hostvm.errors import UsageError
from hostvm.own import own_argv
from runtime.words import FORWARDED

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """The exit status is the command's own."""
    if not options.command:
        raise UsageError("run needs a command, behind --", None, "hostvm run --rm-machine -- docker info")
    settings = wanted_settings(options)
    if options.rm_machine:
        of, _, snapshot = (options.of or "").partition("/")
        progress = make_progress(quiet=options.quiet)
        with Machine.ephemeral(
            of=of, snapshot=snapshot, template=options.template or "", progress=progress, **settings
        ) as machine:
            return _run(machine, options.command)
    if settings or options.template or options.of:
        raise UsageError("settings are for a machine made for this command", None, "add: --rm-machine")
    paths = existing_paths(options)
    ensure_ready(paths)
    return _run(Machine(paths.name), options.command)


def _run(machine: Machine, command: list[str]) -> int:
    # An engine's word finds this computer's client or the guest's, as `hostvm docker` does.
    if command[0] in FORWARDED:  # by HOSTVM_MACHINE alone: an engine without Docker's API has words, too
        return process.run_attached([*own_argv("cli.main"), *command], env={"HOSTVM_MACHINE": machine.name})
    return process.run_attached(command, env=machine.env, without=OTHER_ENGINE)
