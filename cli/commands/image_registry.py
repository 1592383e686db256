"""image push, pull: guest images and OCI registries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.artefact import ring, sent_facts, show_received, signing_key
from cli.commands.common import print_json, say
from cli.progress import make_progress
from hostvm.accel import host_arch
from hostvm.errors import UsageError
from hostvm.guest_images import registry_access
from hostvm.paths import cache
from hostvm.sizes import human_size
from images.registry.reference import parse_reference
from images.registry.transfer import pull_image, push_image
from images.store import inspect_image

if TYPE_CHECKING:
    import argparse

    from images.registry.client import Access
    from images.registry.reference import Reference


def push(options: argparse.Namespace) -> int:
    """Send a stored image to a registry."""
    target = parse_reference(options.target)
    image, key = inspect_image(cache(), options.reference), signing_key(options)
    progress = make_progress(quiet=options.quiet)
    done = push_image(image, target, _access(options, target), cache(), progress, key)
    if options.json:
        return print_json({**sent_facts(image, done.artefact), "reference": str(done.reference), "sent": done.sent})
    signatures = len(done.artefact.signatures)
    signed = f"{signatures} signature(s)" if signatures else "not signed"
    say(options, f"image {image.digest[:12]} is at {target}; {human_size(done.sent)} were new there; {signed}")
    say(options, f"others get it with: hostvm image pull {done.reference}")
    return 0


def pull(options: argparse.Namespace) -> int:
    """Fetch an image from a registry."""
    source = parse_reference(options.reference)
    progress = make_progress(quiet=options.quiet)
    access = _access(options, source)
    wanted = {"arch": options.arch or "", "own": host_arch()}
    got = pull_image(source, access, cache(), ring(), progress, allow_unsigned=options.allow_unsigned, **wanted)
    return show_received(options, got)


def _access(options: argparse.Namespace, reference: Reference) -> Access:
    ca = Path(options.cacert) if options.cacert else None
    if ca is not None and not ca.is_file():
        raise UsageError(f"there is no file {ca}", None, "name a file of PEM certificates after --cacert")
    return registry_access(reference.host, insecure=options.insecure, ca=ca)
