"""snapshot create, ls, restore, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import confirm, existing_machine, existing_paths, print_json, print_table, say, say_of
from hostvm.machines.snapshots import list_snapshots, load_snapshot, newest_snapshot
from hostvm.sizes import human_size

if TYPE_CHECKING:
    import argparse


def create(options: argparse.Namespace) -> int:
    """Keep a machine as it is."""
    machine = existing_machine(options)
    made = load_snapshot(existing_paths(options), machine.snapshot(options.snapshot or ""))
    if options.json:
        return print_json(made.facts())
    what = f"with {human_size(made.memory)} of memory" if made.memory else "without memory: the machine was off"
    say(options, f"snapshot {made.name} of machine {machine.name} is made, {what}")
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
    machine, paths = existing_machine(options), existing_paths(options)
    name = newest_snapshot(paths).name if options.snapshot is None else options.snapshot
    load_snapshot(paths, name)  # before anybody is asked
    if not options.force and not confirm(f"Give up what machine {paths.name} is now for its snapshot {name}?"):
        say(options, "nothing was changed")
        return 1
    runs = machine.restore(name)
    after = "and runs" if runs else f"and is stopped; start it with: hostvm start {paths.name}"
    return say_of(options, paths.name, f"is as in its snapshot {name}, {after}")


def remove(options: argparse.Namespace) -> int:
    """Forget a snapshot."""
    machine = existing_machine(options)
    machine.remove_snapshot(options.snapshot)
    say(options, f"snapshot {options.snapshot} of machine {machine.name} is removed")
    return 0
