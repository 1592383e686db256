"""move: a container from one machine to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.common import chosen_paths, print_json, require_machine, say
from cli.progress import make_progress
from cli.ready import ensure_ready
from hostvm.agent.client import open_engine
from hostvm.errors import UsageError
from hostvm.paths import MachinePaths
from hostvm.sizes import human_size
from runtime.docker.api import EngineApi
from runtime.docker.move import move_container

if TYPE_CHECKING:
    import argparse


def move(options: argparse.Namespace) -> int:
    """Move it; both machines must be running or startable."""
    source = _ready(chosen_paths(options) if options.source is None else MachinePaths.of(options.source))
    target = _ready(MachinePaths.of(options.target))
    if source.name == target.name:
        raise UsageError(f"the container is on {source.name} already", None, "name another machine with --to")
    moved = move_container(_api(source), _api(target), options.container, make_progress(quiet=options.quiet))
    if options.json:
        return print_json(
            {
                "container": moved.name,
                "id": moved.container_id,
                "from": source.name,
                "to": target.name,
                "volumes": list(moved.volumes),
                "bytes": moved.carried,
                "running": moved.running,
            }
        )
    say(options, f"{moved.name} is now on {target.name} ({human_size(moved.carried)} carried)")
    for volume in moved.volumes:
        say(
            options,
            f"its volume {volume} was copied; the one on {source.name} is kept: "
            f"hostvm -m {source.name} docker volume rm {volume}",
        )
    return 0


def _ready(paths: MachinePaths) -> MachinePaths:
    ensure_ready(require_machine(paths))
    return paths


def _api(paths: MachinePaths) -> EngineApi:
    return EngineApi(lambda: open_engine(paths.run_dir), paths.name)
