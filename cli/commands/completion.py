"""completion: the script for a shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.completion_scripts import SCRIPTS

if TYPE_CHECKING:
    import argparse


def completion(options: argparse.Namespace) -> int:
    """Print it."""
    sys.stdout.write(SCRIPTS[options.shell])
    return 0
