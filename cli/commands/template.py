"""template ls, show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.commands.common import print_json, print_table
from hostvm.config.templates import bundled
from hostvm.errors import SpecError

if TYPE_CHECKING:
    import argparse


def ls(options: argparse.Namespace) -> int:
    """What comes with hostvm."""
    found = bundled()
    if options.json:
        return print_json([{"name": one.name, "about": one.about} for one in found])
    print_table(("NAME", "FOR"), [(one.name, one.about) for one in found])
    return 0


def show(options: argparse.Namespace) -> int:
    """A template's text, to begin one's own with."""
    for one in bundled():
        if one.name == options.template:
            sys.stdout.write(one.text)
            return 0
    raise SpecError(f"there is no template called {options.template}", None, "see what there is: hostvm template ls")
