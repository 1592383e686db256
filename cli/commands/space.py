"""df, prune."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.commands.common import confirm, existing_paths, held_machine, print_json, print_table, say
from cli.progress import make_progress
from cli.ready import ensure_ready
from hostvm import paths as places
from hostvm.agent.client import agent_is_ready, engine_of, open_engine
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.machines.drafts import sweep_drafts
from hostvm.machines.room import guest_room
from hostvm.machines.trim import allocated, host_bytes, trim_machine
from hostvm.sizes import human_size
from images.store import images_folder, list_images
from runtime.docker.api import EngineApi
from runtime.docker.usage import PRUNABLE, engine_use, prune_engine

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths

_SAID = {
    "containers": "stopped containers",
    "networks": "networks without containers",
    "images": "images without containers",
    "build_cache": "the build cache",
    "volumes": "volumes without containers",
}


def df(options: argparse.Namespace) -> int:
    """Disk use in the guest and here; a machine that does not run is not woken for it."""
    paths = existing_paths(options)
    facts: dict[str, Any] = {"name": paths.name, "guest": None, "engine": None, "host": _host(paths)}
    if agent_is_ready(paths.run_dir):
        facts["guest"] = asdict(guest_room(paths))
        facts["engine"] = _engine_use(paths)
    if options.json:
        return print_json(facts)
    _print_df(facts)
    return 0


def _engine_use(paths: MachinePaths) -> dict[str, Any]:
    """Nothing where Docker's API is not there to be asked."""
    if engine_of(paths.run_dir) in WITHOUT_DOCKER_API:
        return {}
    return {kind: asdict(use) for kind, use in engine_use(_api(paths)).items()}


def _host(paths: MachinePaths) -> dict[str, int]:
    cache = places.cache()
    store = sum(allocated(file) for file in images_folder(cache).rglob("*") if file.is_file())
    return {**host_bytes(paths), "image_store": store, "images": len(list_images(cache))}


def _print_df(facts: dict[str, Any]) -> None:
    if facts["engine"] is None:
        sys.stdout.write("the machine does not run: of its guest nothing is known\n\n")
    else:
        disk = facts["guest"]
        used = f"{human_size(disk['used'])} used of {human_size(disk['size'])}, {human_size(disk['free'])} free"
        sys.stdout.write(f"in the guest: {used}\n\n")
        rows = [
            (
                kind.replace("_", " "),
                str(use["count"]),
                str(use["active"]),
                human_size(use["size"]),
                human_size(use["reclaimable"]),
            )
            for kind, use in facts["engine"].items()
        ]
        if rows:
            print_table(("ENGINE", "COUNT", "ACTIVE", "SIZE", "RECLAIMABLE"), rows)
            sys.stdout.write("\n")
    host = facts["host"]
    print_table(
        ("ON THIS COMPUTER", "SIZE"),
        [
            ("disks", human_size(host["disk"])),
            ("saved memory", human_size(host["saved_memory"])),
            ("memory in snapshots", human_size(host["snapshots"])),
            ("disks beneath, of snapshots and clones of all machines", human_size(host["layers"])),
            (f"image store, all machines ({host['images']} images)", human_size(host["image_store"])),
        ],
    )


def prune(options: argparse.Namespace) -> int:
    """Give back what the guest has deleted; delete what nothing uses first, where that is asked for."""
    paths = existing_paths(options)
    kinds = _kinds(options)
    if kinds and not options.force:
        doomed = ", ".join(_SAID[kind] for kind in PRUNABLE if kind in kinds)
        if not confirm(f"Machine {paths.name}: delete {doomed}?"):
            say(options, "nothing was deleted")
            return 1
    ensure_ready(paths)
    progress = make_progress(quiet=options.quiet)
    before = host_bytes(paths)["disk"]
    with held_machine(paths):
        sweep_drafts(paths)
        with progress.step(f"prune {paths.name}"):
            freed = prune_engine(_api(paths), kinds)
            trim_machine(paths)
        after = host_bytes(paths)["disk"]
    facts = {"name": paths.name, "deleted": freed, "disk_before": before, "disk_after": after}
    if options.json:
        return print_json({**facts, "freed": max(0, before - after)})
    for kind, size in freed.items():
        say(options, f"{_SAID[kind]}: {human_size(size)} in the guest")
    say(options, f"freed on this computer: {human_size(max(0, before - after))}; the disk takes {human_size(after)}")
    return 0


def _kinds(options: argparse.Namespace) -> set[str]:
    kinds = {kind for kind in ("containers", "images", "build_cache", "volumes") if getattr(options, kind)}
    return kinds | ({"containers", "networks", "images", "build_cache"} if options.all else set())


def _api(paths: MachinePaths) -> EngineApi:
    return EngineApi(lambda: open_engine(paths.run_dir), paths.name)
