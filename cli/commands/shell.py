"""shell: a login shell, or one argv exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import existing_paths
from cli.ready import ensure_ready

if TYPE_CHECKING:
    import argparse

LOGIN = ["/bin/bash", "-l"]


def shell(options: argparse.Namespace) -> int:
    """The exit status is the command's own."""
    from cli.forward import forward

    paths = existing_paths(options)
    ensure_ready(paths)
    return forward(paths.run_dir, options.command or LOGIN, tty=None)
