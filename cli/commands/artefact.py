"""image export, import, key: guest images as files, and whose are taken."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cli.commands.common import confirm, print_json, print_table, say
from cli.output import STDIO, check_output, opened_output, written_size, written_where
from cli.progress import make_progress
from hostvm.errors import ImageError
from hostvm.paths import cache, image_keys
from hostvm.sizes import human_size
from images.artefact.file import export_image, import_image
from images.artefact.minisign import parse_public
from images.artefact.trust import KeyRing, TrustedKey, read_public
from images.store import inspect_image

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from images.artefact.incoming import Received
    from images.artefact.layout import Artefact
    from images.artefact.minisign import SecretKey
    from images.store import Image


def ring() -> KeyRing:
    """The user's keys."""
    return KeyRing(image_keys())


def signing_key(options: argparse.Namespace) -> SecretKey | None:
    """What `--sign` names."""
    return ring().secret(options.sign) if options.sign else None


def export(options: argparse.Namespace) -> int:
    """Write an image to a file or to standard output."""
    image, key = inspect_image(cache(), options.reference), signing_key(options)
    progress = make_progress(quiet=options.quiet)
    check_output(options, "an image", f"hostvm image export {options.reference} -o {image.name}.hostvm")
    with opened_output(options.output) as file:
        made = export_image(image, file, cache(), progress, key)
    if options.json:
        where = {"file": str(Path(options.output).absolute()), "bytes": written_size(options.output)}
        return print_json({**sent_facts(image, made), **where})
    say(options, _sent(image, made, written_where(options.output)))
    return 0


def import_(options: argparse.Namespace) -> int:
    """Store an image from a file or from standard input."""
    progress = make_progress(quiet=options.quiet)
    with opened(options.file, "Make one: `hostvm image export docker -o FILE`") as (source, where):
        got = import_image(source, where, cache(), ring(), progress, allow_unsigned=options.allow_unsigned)
    return show_received(options, got)


@contextmanager
def opened(name: str, instead: str) -> Iterator[tuple[IO[bytes], str]]:
    """A file to read, or standard input for `-`, and what messages call it.

    :param instead: what to do when it cannot be read.
    :raises ImageError: it cannot.
    """
    if name == STDIO:
        yield sys.stdin.buffer, "standard input"
        return
    try:
        source = Path(name).open("rb")  # noqa: SIM115 - what the block raises is not for this `except`
    except OSError as error:
        raise ImageError(f"cannot read {name}", str(error), instead) from error
    with source:
        yield source, name


def show_received(options: argparse.Namespace, got: Received) -> int:
    """Say what was stored, and what was verified and what was not."""
    image, verdict = got.image, got.verdict
    if options.json:
        signed = {"signed_by": verdict.signer, "comment": verdict.comment or None}
        return print_json({**_facts(image), "fresh": got.fresh, **signed})
    there = "is stored" if got.fresh else "was stored already"
    say(options, f"image {image.digest[:12]} ({image.name}, {image.arch}, {human_size(image.size)}) {there}")
    say(options, "verified: every part has the size and sha256 of its manifest; the manifest is " + str(verdict))
    say(options, f"boot it: hostvm start NAME --image {image.digest[:12]}")
    return 0


def sent_facts(image: Image, made: Artefact) -> dict[str, Any]:
    """Facts of an image that was exported or pushed."""
    return {**_facts(image), "artefact": f"sha256:{made.sha256}", "signatures": len(made.signatures)}


def _facts(image: Image) -> dict[str, Any]:
    return {"name": image.name, "digest": f"sha256:{image.digest}", "arch": image.arch, "size": image.size}


def _sent(image: Image, made: Artefact, where: str) -> str:
    signed = f"{len(made.signatures)} signature(s)" if made.signatures else "not signed, see `hostvm image key --help`"
    return f"image {image.digest[:12]} ({image.name}, {image.arch}) is {where}; {signed}"


def key_new(options: argparse.Namespace) -> int:
    """Make a key pair."""
    key = ring().new(options.key)
    if options.json:
        return print_json(_key_facts(key))
    say(options, f"key {key.name} ({key.public.ident}) is made; give others its public half:")
    sys.stdout.write(key.public.text + "\n")
    return 0


def key_ls(options: argparse.Namespace) -> int:
    """All keys."""
    keys = ring().trusted()
    if options.json:
        return print_json([_key_facts(key) for key in keys])
    rows = [(key.name, key.public.ident, "own" if key.own else "trusted", key.public.text) for key in keys]
    print_table(("NAME", "ID", "KIND", "PUBLIC KEY"), rows)
    return 0


def key_trust(options: argparse.Namespace) -> int:
    """Trust a public key, given as a file or as its line."""
    path = Path(options.file)
    if path.is_file():
        public, name = read_public(path), options.key or path.stem
    else:
        public, name = parse_public(options.file, options.file), options.key or ""
    key = ring().trust(name or public.ident, public)
    if options.json:
        return print_json(_key_facts(key))
    say(options, f"images signed by {key.name} ({key.public.ident}) are taken from now on")
    return 0


def key_rm(options: argparse.Namespace) -> int:
    """Remove a key."""
    keys = ring()
    own = keys.owns(options.key)
    if own and not options.force and not confirm(f"delete the secret key {options.key}? It cannot be made again."):
        return 1
    keys.remove(options.key)
    say(options, f"key {options.key} is removed; images that it signed and that are stored stay")
    return 0


def _key_facts(key: TrustedKey) -> dict[str, Any]:
    return {"name": key.name, "id": key.public.ident, "own": key.own, "public": key.public.text}
