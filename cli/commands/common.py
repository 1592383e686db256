"""What several verbs share: which machine, how facts are printed, whether to ask."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli.printer import tell
from hostvm.errors import MachineError, UsageError
from hostvm.paths import DEFAULT_MACHINE, MachinePaths, machine_names
from hostvm.plain import plain, plain_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from cli.api import Machine


def chosen_paths(options: argparse.Namespace) -> MachinePaths:
    """The machine named by NAME, -m, HOSTVM_MACHINE, or `default`.

    :raises UsageError: NAME and -m name different ones.
    """
    name, flag = getattr(options, "name", None), options.machine
    if name and flag and name != flag:
        raise UsageError(f"two machines are named: {name} and {flag}", None, "name one of them")
    return MachinePaths.of(name or flag or os.environ.get("HOSTVM_MACHINE") or DEFAULT_MACHINE)


def existing_paths(options: argparse.Namespace) -> MachinePaths:
    """The chosen machine, which must exist.

    :raises MachineError: it does not.
    """
    return require_machine(chosen_paths(options))


def existing_machine(options: argparse.Namespace) -> Machine:
    """The chosen machine as programs have it, which tells of its steps unless -q was given.

    :raises MachineError: it does not exist.
    """
    from cli.api import Machine  # takes its time, and reads this module
    from cli.progress import make_progress

    return Machine(existing_paths(options).name, progress=make_progress(quiet=options.quiet))


def require_machine(paths: MachinePaths) -> MachinePaths:
    """The same paths when the machine exists.

    :raises MachineError: it does not; the details name those that do.
    """
    if not paths.folder.is_dir():
        names = machine_names()
        there = f"machines here: {', '.join(names)}" if names else "there is no machine yet"
        start = "hostvm start" if paths.name == DEFAULT_MACHINE else f"hostvm start {paths.name}"
        raise MachineError(f"there is no machine called {paths.name}", there, f"make and start it with: {start}")
    return paths


@contextmanager
def held_machine(paths: MachinePaths) -> Iterator[None]:
    """Hold the lock of a machine, which must be there then, too: what was waited for may have removed it.

    :raises MachineError: it is gone, or somebody else holds the lock.
    """
    from hostvm.locks import machine_lock

    with machine_lock(paths):
        require_machine(paths)
        yield


def print_json(facts: Any) -> int:
    """Facts for programs."""
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    return 0


def say_of(options: argparse.Namespace, name: str, text: str) -> int:
    """What became of a machine: its facts with --json, else a line for people."""
    if options.json:
        from hostvm.machines.observe import observe

        return print_json(observe(MachinePaths.of(name)).facts())
    say(options, f"machine {name} {text}")
    return 0


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their longest cell, two spaces apart; easy for people and for awk."""
    table = [head, *(tuple(map(plain_line, row)) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def print_facts(rows: Sequence[tuple[str, str]], width: int) -> None:
    """A line each, `key: value`; values begin behind `width` letters and a space."""
    for key, value in rows:
        sys.stdout.write(f"{key + ':':<{width}} {plain(value)}\n")


def say(options: argparse.Namespace, text: str) -> None:
    """A line for people, on stderr; results alone go to stdout."""
    if not options.quiet:
        tell(text)


def on_terminal() -> bool:
    """Whether a person sits before this command, for a program that needs one."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirm(question: str) -> bool:
    """Ask on a terminal; without one nobody can answer and the command's words are taken as meant.

    :raises UsageError: a person sits there who would not see the question.
    """
    if not sys.stdin.isatty():
        return True
    if not sys.stderr.isatty():
        raise UsageError(
            f"nobody would see the question: {question}",
            "standard error is no terminal",
            "to go on unasked: add --force",
        )
    return _ask(question)


def offer(question: str) -> bool:
    """Ask on a terminal; without one the answer is no."""
    return sys.stdin.isatty() and sys.stderr.isatty() and _ask(question)


def _ask(question: str) -> bool:
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
