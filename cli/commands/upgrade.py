"""upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.commands.common import existing_paths, held_machine, print_json, say
from cli.contexts import keep_context
from cli.printer import print_failure
from cli.progress import make_progress
from hostvm.agent.client import open_engine
from hostvm.errors import HostvmError, UsageError
from hostvm.guest_images import ensure_image, newest_image, newest_stored, news
from hostvm.machines.upgrade import upgrade_machine
from hostvm.paths import MachinePaths, machine_names
from hostvm.spec import load_spec
from hostvm.state import load_state
from runtime.docker.api import EngineApi
from runtime.engine import find_engine

if TYPE_CHECKING:
    import argparse

    from images.progress import Progress
    from images.store import Image


def upgrade(options: argparse.Namespace) -> int:
    """Give machines a newer guest image; with --check only tell."""
    if options.all and options.name:
        raise UsageError(f"both a machine and --all are named: {options.name}", None, "name one of them")
    chosen = _all() if options.all else [existing_paths(options)]
    progress = make_progress(quiet=options.quiet)
    work = _check if options.check else _upgrade
    rows = []
    for paths in chosen:
        try:
            rows.append({"name": paths.name, **work(paths, options, progress)})
        except HostvmError as fault:
            if not options.all:
                raise
            print_failure(fault, forwarded=False, verbose=options.verbose)
            rows.append({"name": paths.name, "status": "failed", "error": str(fault)})
        if not options.json:
            say(options, _told(rows[-1]))
    if options.json:
        print_json(rows if options.all else rows[0])
    return 1 if any(row["status"] == "failed" for row in rows) else 0


def _all() -> list[MachinePaths]:
    """Every machine that stays: one that goes with its process is in use by it, and would lose its memory."""
    return [paths for paths in map(MachinePaths.of, machine_names()) if not _is_anothers(paths)]


def _is_anothers(paths: MachinePaths) -> bool:
    try:
        return load_state(paths).owner is not None
    except HostvmError:
        return False  # a damaged one is told as such


def _upgrade(paths: MachinePaths, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    spec = load_spec(paths.spec)
    image = _wanted(options.image, spec.image, load_state(paths).arch, progress)
    residents = find_engine(spec.engine).residents(EngineApi(lambda: open_engine(paths.run_dir), paths.name))
    with held_machine(paths):
        before = load_state(paths).image
        done = upgrade_machine(paths, image, progress, find_engine(spec.engine), residents, options.image or "")
        if done is None:
            return {"status": "current", "before": before, "after": before}
        keep_context(paths, progress)
    return {"status": "upgraded", "before": done.before, "after": done.after, "seconds": round(done.seconds, 1)}


def _wanted(word: str | None, usual: str, arch: str, progress: Progress) -> Image:
    return ensure_image(word, progress, arch) if word else newest_image(usual, progress, arch)


def _check(paths: MachinePaths, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    state = load_state(paths)
    before = state.image
    image = newest_stored(options.image or load_spec(paths.spec).image, state.arch)
    after = f"sha256:{image.digest}" if image else before
    newer, security = news(image, progress) if image and not options.image else (0, 0)
    status = "available" if after != before or newer else "current"
    return {"status": status, "before": before, "after": after, "newer_packages": newer, "security": security}


def _told(row: dict[str, Any]) -> str:
    name, status = row["name"], row["status"]
    if status == "failed":
        return f"machine {name} was not upgraded"
    before, after = (row[key].removeprefix("sha256:")[:12] for key in ("before", "after"))
    if status == "upgraded":
        back = f"back with: hostvm upgrade {name} --image {before}"
        return f"machine {name} has image {after}, ready after {row['seconds']} s; {back}"
    if status == "current":
        return f"machine {name} is up to date with image {before}"
    parts = [f"image {after} is stored"] if after != before else []
    if row["newer_packages"]:
        parts.append(f"the archive has {row['newer_packages']} newer packages, {row['security']} of them for security")
    return f"machine {name} has image {before}; {' and '.join(parts)}; take it: hostvm upgrade {name}"
