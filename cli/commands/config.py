"""config schema, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.common import print_json, say
from hostvm.config.schema import shipped_schema
from hostvm.more_disks import check_places
from hostvm.paths import MachinePaths, is_name
from hostvm.spec import load_spec, rendered_settings
from runtime.engine import find_engine

if TYPE_CHECKING:
    import argparse


def schema(options: argparse.Namespace) -> int:
    """For editors and other programs."""
    del options
    sys.stdout.write(shipped_schema())
    return 0


def check(options: argparse.Namespace) -> int:
    """Read a file, or a machine's, as a start would. Where it replaces the image's own engine settings, say so."""
    word: str = options.file
    path = MachinePaths.of(word).spec if is_name(word) and not Path(word).exists() else Path(word)
    spec = load_spec(path)
    check_places(spec.disks, spec.mounts)
    replaced = find_engine(spec.engine).check(spec)
    if options.json:
        return print_json(rendered_settings(spec))
    say(options, f"{path} is sound")
    for line in replaced:
        say(options, f"  {line}")
    return 0
