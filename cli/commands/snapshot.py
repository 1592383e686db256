"""snapshot create, ls, restore, rm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cli.commands.common import confirm, existing_paths, print_json, print_table, say
from cli.commands.sleep import container_name
from cli.progress import make_progress
from hostvm.locks import machine_lock
from hostvm.machines.observe import observe
from hostvm.machines.snapshots import (
    create_snapshot,
    list_snapshots,
    load_snapshot,
    newest_snapshot,
    remove_snapshot,
    restore_snapshot,
)
from hostvm.sizes import human_size

if TYPE_CHECKING:
    import argparse


def create(options: argparse.Namespace) -> int:
    """Keep a machine as it is."""
    paths = existing_paths(options)
    name = options.snapshot or time.strftime("s-%Y%m%d-%H%M%S")
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        made = create_snapshot(paths, name, progress, lambda ident: container_name(paths, ident))
    if options.json:
        return print_json(made.facts())
    what = f"with {human_size(made.memory)} of memory" if made.memory else "without memory: the machine was off"
    say(options, f"snapshot {name} of machine {paths.name} is made, {what}")
    return 0


def ls(options: argparse.Namespace) -> int:
    """A machine's snapshots, the oldest first."""
    found = list_snapshots(existing_paths(options))
    if options.json:
        return print_json([one.facts() for one in found])
    print_table(
        ("NAME", "CREATED", "MEMORY"),
        [(one.name, one.created, human_size(one.memory) if one.memory else "-") for one in found],
    )
    return 0


def restore(options: argparse.Namespace) -> int:
    """Make a machine what it was."""
    paths = existing_paths(options)
    name = options.snapshot or newest_snapshot(paths).name
    load_snapshot(paths, name)  # before anybody is asked
    if not options.force and not confirm(f"Give up what machine {paths.name} is now for its snapshot {name}?"):
        say(options, "nothing was changed")
        return 1
    progress = make_progress(quiet=options.quiet)
    with machine_lock(paths):
        runs = restore_snapshot(paths, name, progress)
    if options.json:
        return print_json(observe(paths).facts())
    after = "and runs" if runs else f"and is stopped; start it with: hostvm start {paths.name}"
    say(options, f"machine {paths.name} is as in its snapshot {name}, {after}")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Forget a snapshot."""
    paths = existing_paths(options)
    with machine_lock(paths):
        remove_snapshot(paths, options.snapshot)
    say(options, f"snapshot {options.snapshot} of machine {paths.name} is removed")
    return 0
