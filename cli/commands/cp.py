"""cp."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.common import chosen_paths, require_machine, say
from cli.progress import make_progress
from cli.ready import ensure_ready
from hostvm.advice import machine_named
from hostvm.copying import copy_from_guest, copy_to_guest
from hostvm.errors import UsageError
from hostvm.paths import MachinePaths

if TYPE_CHECKING:
    import argparse

_PLACE = re.compile(r"(?P<name>[a-z0-9-]{0,24}):(?P<path>.+)", re.DOTALL)


def cp(options: argparse.Namespace) -> int:
    """Copy between this computer and a machine; one of the two sides is a machine's."""
    *sources, target = options.places
    if not sources:
        raise UsageError("cp needs a source and a target", None, "see: hostvm cp --help")
    into = guest_place(target)
    from_guest = [guest_place(source) for source in sources]
    if any(from_guest) if into else not all(from_guest):
        raise UsageError(
            "one side must be a machine's, the other this computer's",
            f"a machine's place is written NAME:PATH, or :PATH for the chosen one; given: {' '.join(options.places)}",
            "for example: hostvm cp notes.txt :/root/",
        )
    if len(sources) > 1 and not target.endswith("/") and not (not into and Path(target).is_dir()):
        raise UsageError("several sources need a folder as target", f"{target} does not end with /", f"write {target}/")
    progress = make_progress(quiet=options.quiet)
    for source, place in zip(sources, from_guest, strict=True):
        name, path = into or place or ("", "")
        paths = require_machine(MachinePaths.of(name) if name else chosen_paths(options))
        ensure_ready(paths)
        with machine_named(paths.name), progress.task(f"copy {source}", None, "B") as task:
            if into:
                copy_to_guest(paths.run_dir, Path(source), path, task)
            else:
                copy_from_guest(paths.run_dir, path, Path(target), task)
    say(options, f"copied to {target}")
    return 0


def guest_place(word: str) -> tuple[str, str] | None:
    """Machine ("" for the chosen one) and path of NAME:PATH; None for a path of this computer.

    A drive's letter is no machine on Windows; anywhere, ./a:b is a file here.
    """
    found = _PLACE.fullmatch(word)
    if found is None or (sys.platform == "win32" and os.path.splitdrive(word)[0]):
        return None
    return found["name"], found["path"]
