"""bundle create, load: everything for a site without a network, in one file."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cli.commands.artefact import opened, ring, signing_key
from cli.commands.common import print_json, say
from cli.commands.image import base_request
from cli.output import STDIO, check_output, opened_output, written_size, written_where
from cli.progress import make_progress
from hostvm.errors import HostvmError, UsageError
from hostvm.guest_images import ensure_image, guest_arch, make_builder
from hostvm.own import own_argv
from hostvm.paths import cache
from hostvm.platform.words import in_turn
from hostvm.process import run
from images.archive import DEFAULT_MIRROR
from images.artefact.bundle import Bundle, describe_bundle, load_bundle, write_bundle
from images.base import build_base, find_base
from images.disk import OUTGOING, work_lock
from images.emulators import find_emulator

if TYPE_CHECKING:
    import argparse

    from images.progress import Progress

_WHEEL_SECONDS = 1800.0


def create(options: argparse.Namespace) -> int:
    """Gather what was asked for, make what is missing, and write it."""
    progress, key = make_progress(quiet=options.quiet), signing_key(options)
    check_output(options, "a bundle", "hostvm bundle create -o site.hostvm")
    if options.wheels and options.no_wheels:
        raise UsageError("wheels are both named and left out", None, "give --wheels DIR or --no-wheels")
    images = [ensure_image(name, progress) for name in options.image or ["docker"]]
    folders = _bases(options, progress)
    with ExitStack() as stack:
        wheels = _wheels(options, stack, progress)
        # A prune waits for it, whatever it would remove; not so a `bundle load` that reads what this writes.
        stack.enter_context(work_lock(cache() / "images", progress, OUTGOING))
        if emulator := find_emulator("arm64", guest_arch(), cache()) or find_emulator("amd64", guest_arch(), cache()):
            folders.append(emulator.packed.parent)
        notes = {"images": [image.name for image in images], "base": options.base, "arch": guest_arch()}
        bundle, sources = describe_bundle(images, folders, wheels, cache(), notes)
        with opened_output(options.output) as file:
            write_bundle(bundle, sources, file, progress, key)
    if options.json:
        where = {"file": str(Path(options.output).absolute()), "bytes": written_size(options.output)}
        return print_json({**_facts(bundle), **where, "signed": key is not None})
    say(options, f"{_told(bundle)} are {written_where(options.output)}")
    if key is None:
        say(options, "not signed, see `hostvm image key --help`")
    name = "FILE" if options.output == STDIO else Path(options.output).name
    install = "pip install --no-index --find-links wheels hostvm"
    say(options, f"there: {in_turn(f'zstd -dc {name} | tar -x wheels', install)}")
    say(options, f"then: hostvm bundle load {name}")
    return 0


def load(options: argparse.Namespace) -> int:
    """Check a bundle and store what it holds."""
    progress = make_progress(quiet=options.quiet)
    with opened(options.file, "make one: hostvm bundle create -o FILE") as (source, where):
        loaded = load_bundle(source, where, cache(), ring(), progress, allow_unsigned=options.allow_unsigned)
    if options.json:
        return print_json({**_facts(loaded.bundle), "signed_by": loaded.verdict.signer})
    say(options, f"{_told(loaded.bundle)} are stored")
    say(options, f"verified: every file has the size and sha256 of the bundle's index, which is {loaded.verdict}")
    say(options, "start a machine: hostvm start")
    return 0


def _bases(options: argparse.Namespace, progress: Progress) -> list[Path]:
    """Folders of base images in the cache; what was made before is taken as it is."""
    builder, arch = make_builder(), guest_arch()
    found = []
    for name in options.base:
        image, _, platform = name.partition("@")
        request = base_request(image, platform, [], None, options.mirror or DEFAULT_MIRROR)
        made = find_base(*request) or build_base(*request, builder, progress, builder_arch=arch)
        found.append(made.parent)
    return found


def _wheels(options: argparse.Namespace, stack: ExitStack, progress: Progress) -> list[Path]:
    if options.no_wheels:
        return []
    if options.wheels:
        found = sorted(Path(options.wheels).glob("*.whl"))
        if not found:
            raise UsageError(
                f"{options.wheels} holds no wheels", None, f"fill it: pip wheel -w {options.wheels} hostvm"
            )
        return found
    folder = stack.enter_context(TemporaryDirectory(prefix="hostvm-wheels-"))
    argv = [*own_argv("pip"), "wheel", "--quiet", "--disable-pip-version-check", "-w", folder, _own_source()]
    with progress.step("wheels of hostvm and what it needs"):
        try:
            run(argv, timeout=_WHEEL_SECONDS)
        except HostvmError as fault:
            raise HostvmError(
                "pip makes no wheels of hostvm here",
                fault.details,
                "name a folder of them: hostvm bundle create --wheels DIR, or leave them out: --no-wheels",
            ) from fault
    return sorted(Path(folder).glob("*.whl"))


def _own_source() -> str:
    """What pip is to make a wheel of: the checkout that is installed in place, or the version from the index."""
    import json

    try:
        own = distribution("hostvm")
    except PackageNotFoundError:
        return "hostvm"
    url = str(json.loads(own.read_text("direct_url.json") or "{}").get("url", ""))
    if url.startswith("file:") and (folder := Path(url2pathname(urlsplit(url).path))).is_dir():
        return str(folder)
    return f"hostvm=={own.version}"


def _facts(bundle: Bundle) -> dict[str, Any]:
    kinds = ("images", "base", "emulators", "wheels")
    return {**{kind: bundle.units(kind) for kind in kinds}, "files": len(bundle.members), "size": bundle.size}


def _told(bundle: Bundle) -> str:
    counts = {
        "guest image": len(bundle.units("images")),
        "base image": len(bundle.units("base")),
        "set of emulators": len(bundle.units("emulators")),
        "wheel": len(bundle.units("wheels")),
    }
    plural = {"set of emulators": "sets of emulators"}
    return ", ".join(
        f"{count} {name if count == 1 else plural.get(name, name + 's')}" for name, count in counts.items() if count
    )
