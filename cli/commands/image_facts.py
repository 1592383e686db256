"""image diff, outdated: what an image holds, beside another one and beside the archive."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from cli.commands.common import print_json, print_table, say
from cli.progress import make_progress
from hostvm.paths import cache
from hostvm.sizes import human_size
from images.compare import diff as compare
from images.compare import outdated as find_outdated
from images.store import inspect_image

if TYPE_CHECKING:
    import argparse


def diff(options: argparse.Namespace) -> int:
    """Two images, package by package."""
    before, after = (inspect_image(cache(), name) for name in (options.before, options.after))
    found = compare(before.manifest, after.manifest)
    if options.json:
        names = ("name", "before", "after")
        return print_json(
            {
                "before": f"sha256:{before.digest}",
                "after": f"sha256:{after.digest}",
                "added": [{"name": name, "version": version} for name, version in found.added],
                "removed": [{"name": name, "version": version} for name, version in found.removed],
                "changed": [dict(zip(names, row, strict=True)) for row in found.changed],
                "facts": [dict(zip(names, row, strict=True)) for row in found.facts],
                "size": {"before": found.size[0], "after": found.size[1]},
            }
        )
    rows = [
        *((name, "-", version) for name, version in found.added),
        *((name, version, "-") for name, version in found.removed),
        *found.changed,
        *((key, _short(old), _short(new)) for key, old, new in found.facts),
    ]
    if rows:
        print_table(("WHAT", before.digest[:12], after.digest[:12]), sorted(rows))
    else:
        say(options, "the same packages, kernel and recipe")
    say(options, f"size: {human_size(found.size[0])} and {human_size(found.size[1])}")
    return 0


def _short(text: str) -> str:
    most = 40
    return text if len(text) <= most else text[: most - 1] + "…"


def outdated(options: argparse.Namespace) -> int:
    """What a build would make newer."""
    image = inspect_image(cache(), options.reference)
    found = find_outdated(image.manifest, options.mirror, cache(), make_progress(quiet=options.quiet))
    if options.json:
        return print_json({"digest": f"sha256:{image.digest}", "outdated": [asdict(item) for item in found]})
    if not found:
        say(options, f"image {image.digest[:12]} is up to date: the archive has nothing newer")
        return 0
    rows = [(item.name, item.version, item.newest, "security" if item.security else "") for item in found]
    print_table(("PACKAGE", "VERSION", "NEWEST", "POCKET"), rows)
    security = sum(item.security for item in found)
    sys.stdout.flush()
    say(options, f"{len(found)} newer, {security} of them security updates; build: hostvm image build")
    return 0
