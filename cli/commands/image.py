"""image build, ls, inspect, rm: guest images; image base: container base images made offline."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cli.commands.common import existing_paths, print_json, print_table, say
from cli.output import STDIO, check_output, opened_output, written_where
from cli.progress import make_progress
from cli.ready import ensure_ready
from cli.unfinished import new_part
from hostvm.agent.client import open_engine
from hostvm.emulate import platform_arch
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.errors import HostvmError, ImageError, MachineError, UsageError
from hostvm.guest_images import guest_arch, make_builder
from hostvm.machines.snapshots import list_snapshots
from hostvm.paths import MachinePaths, cache, machine_names
from hostvm.sizes import human_size
from hostvm.spec import load_spec
from hostvm.state import load_state
from images.base import build_base, find_base
from images.build import build_image
from images.disk import CHUNK
from images.errors import MirrorError, OutOfDateError
from images.foreign import FOREIGN
from images.oci import write_layout, write_layout_folder
from images.own_recipe import load_own_recipe, with_packages
from images.prune import find_unneeded, remove_unneeded
from images.recipe import find_recipe, recipe_names
from images.sbom import make_sbom
from images.store import find_digest, find_sound, inspect_image, list_damaged, list_images, remove_image
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from images.progress import Progress, Task
    from images.store import Image


def build(options: argparse.Namespace) -> int:
    """Build from the archive as it is now, whether an image is stored already or not."""
    named = options.recipe is not None and options.recipe_file is not None
    if named:
        raise UsageError("two recipes are named", None, "give either RECIPE or --recipe FILE")
    known = load_own_recipe(options.recipe_file) if options.recipe_file else find_recipe(options.recipe or "docker")
    recipe = with_packages(known, options.package, options.name)
    arch = options.arch or guest_arch()
    progress = make_progress(quiet=options.quiet)
    image = build_image(recipe, arch, options.suite, options.mirror, cache(), make_builder(), progress)
    if options.json:
        return print_json(_facts(image))
    say(options, f"image {image.digest[:12]} ({image.name}, {image.arch}, {human_size(image.size)})")
    if recipe.name not in recipe_names():
        say(options, f"boot it: hostvm start NAME --image {recipe.name}")
    return 0


def prune(options: argparse.Namespace) -> int:
    """Remove what no machine needs."""
    if options.dry_run:
        found = find_unneeded(cache(), _needed(), everything=options.all)
    else:
        progress = make_progress(quiet=options.quiet)
        found = remove_unneeded(cache(), _needed, progress, everything=options.all)
    size = sum(item.size for item in found)
    if options.json:
        facts = [{"kind": item.kind, "name": item.name, "path": str(item.path), "size": item.size} for item in found]
        return print_json({"dry_run": options.dry_run, "freed": size, "removed": facts})
    if found:
        print_table(("KIND", "NAME", "SIZE"), [(item.kind, item.name, human_size(item.size)) for item in found])
    say(options, f"{human_size(size)} {'would be' if options.dry_run else 'are'} freed")
    return 0


def _needed() -> set[str]:
    """Digests that machines boot, or would go back to, also by a snapshot's memory.

    :raises MachineError: a machine cannot be read: it may need any image.
    """
    found = set()
    for name in machine_names():
        paths = MachinePaths.of(name)
        try:
            state = load_state(paths)
            memories = [one.image for one in list_snapshots(paths) if one.saved is not None]
            before = [state.trial.image, state.trial.former_image] if state.trial else []
            digests = [state.image, state.former_image, *before, *memories]
            found |= {digest.removeprefix("sha256:") for digest in digests if digest}
        except HostvmError as error:
            if not paths.folder.is_dir():
                continue  # it was removed a moment ago, as one that goes with its process
            raise MachineError(
                f"nothing is removed: which image machine {name} needs cannot be told",
                error.details,
                f"mend the machine, or delete it: hostvm rm --force {name}",
            ) from error
    return found


def ls(options: argparse.Namespace) -> int:
    """All stored images, newest first."""
    images = list_images(cache())
    if options.json:
        return print_json([_facts(image) for image in images])
    rows = [
        (
            image.name,
            image.digest[:12],
            image.arch,
            image.suite,
            human_size(image.size),
            ", ".join(_users(image.digest)) or "-",
        )
        for image in images
    ]
    print_table(("NAME", "DIGEST", "ARCH", "SUITE", "SIZE", "MACHINES"), rows)
    for path in list_damaged(cache()):
        say(options, f"damaged: {path}; remove it with: hostvm image rm {path.name[:12]}")
    return 0


def _facts(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "digest": f"sha256:{image.digest}",
        "arch": image.arch,
        "suite": image.suite,
        "size": image.size,
        "path": str(image.path),
        "machines": _users(image.digest),
    }


def _users(digest: str) -> list[str]:
    """Names of the machines that boot this image."""
    found = []
    for name in machine_names():
        try:
            state = load_state(MachinePaths.of(name))
        except HostvmError:
            continue  # a damaged machine boots nothing
        if f"sha256:{digest}" in {state.image, state.trial.image if state.trial else ""}:
            found.append(name)
    return found


def _memories(digest: str) -> list[tuple[str, str]]:
    """Machine and name of each snapshot whose memory belongs to this image."""
    every = ((name, one) for name in machine_names() for one in list_snapshots(MachinePaths.of(name)))
    return [(name, one.name) for name, one in every if one.saved is not None and one.image == f"sha256:{digest}"]


def inspect(options: argparse.Namespace) -> int:
    """The manifest, or the package list for a scanner."""
    image = inspect_image(cache(), options.reference)
    if options.sbom:
        sys.stdout.write(make_sbom(options.sbom, image.manifest, image.digest).decode())
        return 0
    return print_json({**_facts(image), "manifest": image.manifest})


def rm(options: argparse.Namespace) -> int:
    """Delete an image that no machine needs, nor the memory of a snapshot."""
    digest = find_digest(cache(), options.reference)
    users, memories = _users(digest), _memories(digest)
    sound = (users or memories) and find_sound(cache(), digest) is not None
    if users and sound:
        raise MachineError(
            f"image {digest[:12]} is in use",
            f"machines that boot it: {', '.join(users)}",
            "\n".join(f"give it another one: hostvm upgrade {one}   # or delete it: hostvm rm {one}" for one in users),
        )
    if sound:
        raise MachineError(
            f"image {digest[:12]} is in use",
            "memory of snapshots that only goes on with it: " + ", ".join(f"{one}'s {name}" for one, name in memories),
            "\n".join(f"remove the snapshot: hostvm snapshot rm -m {one} {name}" for one, name in memories),
        )
    remove_image(cache(), digest)
    say(options, f"image {digest[:12]} is deleted")
    if users:
        say(options, f"it was damaged; {', '.join(users)} need it or another one: hostvm upgrade {users[0]}")
    return 0


def base(options: argparse.Namespace) -> int:
    """Make a base image; load it into the machine's engine, or write it to a file."""
    if options.output:
        _check_base_output(options)
    paths = None if options.output else existing_paths(options)
    if paths is not None:
        ensure_ready(paths)
    progress = make_progress(quiet=options.quiet)
    arch = options.arch or (load_state(paths).arch if paths else None)
    archive = _base_archive(options, arch, progress)
    name = options.tag or options.image
    if paths is None:
        _write_base(options, archive)
        to_docker = options.format == "docker" and options.output != STDIO
        way = f"; load it with: docker load -i {options.output}" if to_docker else ""
        say(options, f"{name} is {written_where(options.output)}{way}")
        return 0
    if load_spec(paths.spec).engine in WITHOUT_DOCKER_API:
        return _import_base(paths, archive, name, options)
    api = EngineApi(lambda: open_engine(paths.run_dir), paths.name)
    with progress.task(f"loading {name}", archive.stat().st_size, "B") as task:
        answer = api.upload("POST", "/images/load", _read(archive, task), query={"quiet": 1})
    if '"errorDetail"' in answer:
        raise HostvmError(f"the engine refused {name}", answer.strip(), f"look with: hostvm logs {paths.name}")
    say(options, f"{name} is loaded into machine {paths.name}")
    return 0


def _import_base(paths: MachinePaths, archive: Path, name: str, options: argparse.Namespace) -> int:
    """By containerd's own client in the guest."""
    from cli.forward import forward

    with archive.open("rb") as file:
        status = forward(paths.run_dir, ["ctr", "images", "import", "-"], stdin=file.fileno())
    if status == 0:
        say(options, f"{name} is loaded into machine {paths.name}")
    return status


def _is_folder(output: str) -> bool:
    return output.endswith(("/", "\\"))


def _check_base_output(options: argparse.Namespace) -> None:
    """:raises UsageError: the image cannot go there; asked before it is made."""
    if not _is_folder(options.output):
        check_output(options, "an image", f"hostvm image base {options.image} -o FILE")
    elif options.format != "oci":
        raise UsageError(f"{options.output} is a folder", "docker loads tars", "add --format oci, or name a file")
    elif Path(options.output).exists():
        raise UsageError(f"{Path(options.output)} is there already", None, "name another folder, or delete it first")


def _write_base(options: argparse.Namespace, archive: Path) -> None:
    if _is_folder(options.output):
        _write_folder(Path(options.output), archive)
        return
    with opened_output(options.output) as target:
        if options.format == "oci":
            write_layout(archive, target)
        else:
            with archive.open("rb") as file:
                shutil.copyfileobj(file, target, CHUNK)


def _write_folder(target: Path, archive: Path) -> None:
    try:
        beside = new_part(target)
    except OSError as fault:
        raise _unwritable(target, fault) from fault
    try:
        write_layout_folder(archive, beside)
        beside.replace(target)
    except OSError as fault:
        raise _unwritable(target, fault) from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unwritable(target: Path, fault: OSError) -> HostvmError:
    return HostvmError(f"cannot write {target}", str(fault), "choose another place: -o FOLDER/")


def base_request(
    name: str, platform: str | None, packages: list[str], suite: str | None, mirror: str | None
) -> tuple[str, str, list[str], str | None, str | None, Path]:
    """What `build_base` and `find_base` take.

    :raises UsageError: no base images are made for the platform.
    """
    arch = platform_arch(platform) if platform else guest_arch()
    if arch not in FOREIGN:
        raise UsageError(
            f"no base images are made for {platform}",
            f"known architectures are {', '.join(FOREIGN)}",
            "name one, for example --platform linux/arm64",
        )
    return name, arch, packages, suite, mirror, cache()


def _base_archive(options: argparse.Namespace, arch: str | None, progress: Progress) -> Path:
    """The image from the archive as it is now; without a mirror, or with --stored, the one that was made before.

    :raises OutOfDateError: the mirror stands still; what was made before is taken only by whoever says so.
    """
    request = base_request(options.image, arch, options.package, options.suite, options.mirror)
    more = {"tag": options.tag, "nonroot": options.nonroot}
    if options.stored:
        return find_base(*request, **more) or _none_stored(options.image)
    try:
        return build_base(*request, make_builder(), progress, **more, builder_arch=guest_arch())
    except MirrorError as fault:
        known = find_base(*request, **more)
        if known is None:
            raise
        progress.note(f"{fault.brief}; taking {options.image} as it was made before")
        return known
    except OutOfDateError as fault:
        if find_base(*request, **more) is None:
            raise
        instead = f"Or take {options.image} as it was made before: the same command with --stored"
        raise OutOfDateError(fault.brief, fault.details, f"{fault.resolution}\n{instead}") from fault


def _none_stored(name: str) -> NoReturn:
    raise ImageError(
        f"no {name} is stored that was made by these words",
        "none was made here with them, and none came in a bundle",
        f"make it from a mirror: hostvm image base {name}",
    )


def _read(path: Path, task: Task) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            task.advance(len(chunk))
            yield chunk
