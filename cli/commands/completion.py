"""completion: the script for a shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.completion_scripts import completion_script
from cli.shims import shims_in_use

if TYPE_CHECKING:
    import argparse


def completion(options: argparse.Namespace) -> int:
    """Print it, for the launchers too that come first on PATH."""
    sys.stdout.write(completion_script(options.shell, shims_in_use()))
    return 0
