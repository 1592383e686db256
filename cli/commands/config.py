"""config schema, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.common import print_json, say
from hostvm.config.schema import shipped_schema
from hostvm.paths import MachinePaths, is_name
from hostvm.spec import load_spec, rendered_settings

if TYPE_CHECKING:
    import argparse


def schema(options: argparse.Namespace) -> int:
    """For editors and other programs."""
    del options
    sys.stdout.write(shipped_schema())
    return 0


def check(options: argparse.Namespace) -> int:
    """Read a file, or a machine's, as a start would."""
    word: str = options.file
    path = MachinePaths.of(word).spec if is_name(word) and not Path(word).exists() else Path(word)
    spec = load_spec(path)
    if options.json:
        return print_json(rendered_settings(spec))
    say(options, f"{path} is sound")
    return 0
