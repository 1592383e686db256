"""config schema, check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.commands.common import print_json, require_machine, say
from hostvm.config.schema import shipped_schema
from hostvm.errors import UsageError
from hostvm.files import user_path
from hostvm.more_disks import check_places
from hostvm.paths import MachinePaths, is_name
from hostvm.spec import load_spec, rendered_settings
from runtime.engine import find_engine

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def schema(options: argparse.Namespace) -> int:
    """For editors and other programs."""
    del options
    sys.stdout.write(shipped_schema())
    return 0


def _settings_file(word: str) -> Path:
    """A file, or a machine's; a folder is no file, so that a machine may be called as one that lies here."""
    file = user_path(word)
    if is_name(word) and not file.is_file():
        machine = MachinePaths.of(word)
        if machine.folder.is_dir() or not file.exists():
            return require_machine(machine).spec
    if file.is_dir() or not file.exists():
        why = "it is a folder" if file.is_dir() else "there is no such file"
        raise UsageError(f"{word} cannot be read", why, "name a file, or a machine: hostvm ls")
    return file


def check(options: argparse.Namespace) -> int:
    """Read a file, or a machine's, as a start would. Where it replaces the image's own engine settings, say so."""
    word: str = options.file
    path = _settings_file(word)
    spec = load_spec(path)
    check_places(spec.disks, spec.mounts)
    replaced = find_engine(spec.engine).check(spec)
    if options.json:
        return print_json(rendered_settings(spec))
    say(options, f"{path} is sound")
    for line in replaced:
        say(options, f"  {line}")
    return 0
