"""set, edit."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from cli import held
from cli.commands.common import existing_paths, held_machine, offer, on_terminal, print_json, require_machine, say
from cli.edit import find_editor
from cli.printer import print_failure, tell
from cli.progress import make_progress
from cli.set_words import assign, split_words
from hostvm import process
from hostvm.errors import HostvmError, MachineError, SpecError, UsageError
from hostvm.files import write_atomic
from hostvm.locks import home_lock
from hostvm.machines.boot import check_startable
from hostvm.machines.change import apply_change, keys_in_words
from hostvm.platform.words import delete_file
from hostvm.spec import load_spec, parse_text
from runtime.engine import find_engine

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from hostvm.machines.change import Outcome
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec


def set_(options: argparse.Namespace) -> int:
    """Change single settings; comments in machine.yaml stay."""
    options.name, words = split_words(options.words)
    if not words:
        raise UsageError("no setting is given", None, "for example: hostvm set cpus=4   # more: hostvm set --help")
    paths = existing_paths(options)
    with held_machine(paths):
        before = load_spec(paths.spec)
        text = assign(paths.spec.read_text(encoding="utf-8"), words)
        outcome = _save(paths, text, parse_text(text, str(paths.spec)), before, options)
    return _tell(paths, outcome, options)


def _save(
    paths: MachinePaths, text: str, after: MachineSpec, before: MachineSpec | None, options: argparse.Namespace
) -> Outcome:
    """Save, and restart the machine when that was asked for and something waits for it."""
    if options.restart:
        check_startable(paths, after, find_engine(after.engine))  # before anything is written or stopped
    outcome = apply_change(paths, text, after, before)
    if options.restart and outcome.waiting:
        seconds = held.restart(paths, make_progress(quiet=options.quiet))
        told = f"machine {paths.name} is ready again after {seconds:.1f} s"
        outcome = replace(outcome, waiting=(), notes=(*outcome.notes, told))
    return outcome


def _tell(paths: MachinePaths, outcome: Outcome, options: argparse.Namespace) -> int:
    for note in outcome.notes:
        say(options, note)
    if not outcome.changed:
        say(options, f"machine {paths.name} is so already")
    else:
        say(options, f"machine {paths.name}: {keys_in_words(outcome.changed)} changed")
    if outcome.waiting:
        count = "counts" if len(outcome.waiting) == 1 else "count"
        say(options, f"{keys_in_words(outcome.waiting)} {count} from its next start: hostvm restart {paths.name}")
    if options.json:
        facts = {"name": paths.name, "changed": outcome.changed, "waiting": outcome.waiting}
        return print_json({**facts, "notes": outcome.notes})
    return 0


def edit(options: argparse.Namespace) -> int:
    """Let the user's editor change machine.yaml; it is saved only when it is sound."""
    paths = existing_paths(options)
    if not on_terminal():
        raise UsageError(
            "edit needs a terminal",
            "the editor has none to show itself on",
            f"change single settings with: hostvm set {paths.name} KEY=VALUE\nor change the file: {paths.spec}",
        )
    editor = find_editor(os.environ, shutil.which, sys.platform)
    with _only_edit(paths):
        return _edit(paths, editor, options)


def _only_edit(paths: MachinePaths) -> AbstractContextManager[None]:
    """Two editors on one draft would undo each other's writing, and who ends first would delete the other's."""
    way = f"end that one first\nor change single settings: hostvm set {paths.name} KEY=VALUE"
    return home_lock(paths.edit_lock, 0.0, f"machine {paths.name} is being edited already", way)


def _edit(paths: MachinePaths, editor: list[str], options: argparse.Namespace) -> int:
    base = _begin(paths)
    while True:
        _run_editor(editor, paths)
        require_machine(paths)
        text = _read(paths.spec_draft)
        if text in (base, _read(paths.spec)):
            _drop(paths)
            say(options, "nothing was changed")
            return 0
        outcome = _save_or_tell(paths, base, text, options)
        if outcome is not None:
            break
        if not offer("Edit it again?"):
            return 1
    _drop(paths)
    return _tell(paths, outcome, options)


def _begin(paths: MachinePaths) -> str:
    """Have a draft; gives what it began from. One that was left is gone on with, if anything was written in it."""
    now = _read(paths.spec)
    if paths.spec_draft.exists():
        base = _read(paths.spec_draft_base) if paths.spec_draft_base.exists() else now
        if _read(paths.spec_draft) != base:
            tell(f"going on with what was written before and not saved, {paths.spec_draft}")
            return base
        paths.spec_draft.unlink()  # first, or it would pass for one that began from the new base
    for path in (paths.spec_draft_base, paths.spec_draft):
        write_atomic(path, now.encode("utf-8", "surrogateescape"))
    return now


def _drop(paths: MachinePaths) -> None:
    paths.spec_draft.unlink(missing_ok=True)
    paths.spec_draft_base.unlink(missing_ok=True)


class _ChangedError(MachineError):
    """machine.yaml is not what the draft began from; `now` is what it is."""

    now = ""


def _save_or_tell(paths: MachinePaths, base: str, text: str, options: argparse.Namespace) -> Outcome | None:
    try:
        return _save_draft(paths, base, text, options)
    except HostvmError as fault:
        print_failure(_kept(fault, paths), forwarded=False, verbose=0)
        if isinstance(fault, _ChangedError) and offer("Undo that, and save what you wrote?"):
            return _save_or_tell(paths, fault.now, text, options)
    return None


def _run_editor(editor: list[str], paths: MachinePaths) -> None:
    status = process.run_attached([*editor, paths.spec_draft])
    if status != 0:
        raise HostvmError(
            f"the editor ended with status {status}; nothing was saved",
            process.join([*editor, str(paths.spec_draft)]),
            f"go on with: hostvm edit {paths.name}\nor drop it: {delete_file(str(paths.spec_draft))}",
        )


def _save_draft(paths: MachinePaths, base: str, text: str, options: argparse.Namespace) -> Outcome:
    after = parse_text(text, str(paths.spec_draft))
    with held_machine(paths):
        if (now := _read(paths.spec)) != base:
            raise _changed(paths, base, now)
        try:
            before = parse_text(base, str(paths.spec))
        except SpecError:
            before = None  # mending it is what edit is for
        return _save(paths, text, after, before, options)


def _changed(paths: MachinePaths, base: str, now: str) -> _ChangedError:
    lines = difflib.unified_diff(
        base.splitlines(), now.splitlines(), "what you began from", "what it is", n=0, lineterm=""
    )
    error = _ChangedError(f"{paths.spec} was changed by another command meanwhile", "\n".join(lines) or None)
    error.now = now
    return error


def _kept(fault: HostvmError, paths: MachinePaths) -> HostvmError:
    drop = delete_file(str(paths.spec_draft))
    where = f"what you wrote is kept; go on with: hostvm edit {paths.name}\nor drop it: {drop}"
    return type(fault)(fault.brief, fault.details, where)


# A file that is no UTF-8 is to be mended, too: its bytes come back as they were.
def _read(path: os.PathLike[str]) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:  # noqa: PTH123
        return file.read()
