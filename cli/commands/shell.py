"""shell: a login shell, or one argv exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import existing_paths, say
from cli.ready import ensure_ready
from hostvm.agent.client import agent_is_ready, agent_status

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths

LOGIN = ["/bin/bash", "-l"]


def shell(options: argparse.Namespace) -> int:
    """The exit status is the command's own."""
    from cli.forward import forward

    paths = existing_paths(options)
    if why := _trouble(paths):
        say(options, f"machine {paths.name} is not ready: {why}")
        return forward(paths.run_dir, options.command or LOGIN, tty=None, ready=False)
    ensure_ready(paths)
    return forward(paths.run_dir, options.command or LOGIN, tty=None)


def _trouble(paths: MachinePaths) -> str:
    """Why a machine that is on did not become ready; whoever wants to know more is let in. Else ""."""
    if agent_is_ready(paths.run_dir):
        return ""
    facts = agent_status(paths.run_dir) or {}
    return str(facts["error"]).partition("\n")[0] if facts.get("state") == "failed" else ""
