"""context use, context ls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import existing_paths, print_json, print_table, say
from cli.contexts import machine_context, use_context
from hostvm.agent.client import docker_host
from hostvm.paths import MachinePaths, machine_names

if TYPE_CHECKING:
    import argparse


def use(options: argparse.Namespace) -> int:
    """Docker clients on this computer talk to the machine from now on."""
    paths = existing_paths(options)
    context = machine_context(paths)
    context.write(docker_host(paths.run_dir))
    use_context(context)
    if options.json:
        return print_json(context.describe())
    say(options, f"docker clients now use {context.name}; back with: docker context use default")
    return 0


def ls(options: argparse.Namespace) -> int:
    """The context of each machine."""
    found = [machine_context(MachinePaths.of(name)).describe() for name in machine_names()]
    if options.json:
        return print_json(found)
    rows = [(str(one["name"]), str(one["machine"]), str(one["state"]), "*" if one["current"] else "") for one in found]
    print_table(("CONTEXT", "MACHINE", "STATE", "CURRENT"), rows)
    return 0
