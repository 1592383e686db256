"""Whether a guest image is what was made, bit for bit: looked at once in each boot of this computer, beside a start.

All of it must be read for that, some 240 MB. An image that was found sound is written down with this computer's boot
and what its files looked like, in `CACHE/checked-images.json`, for all machines: the next start only looks at those.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hostvm import paths as places
from hostvm.accel.cache import host_boot
from hostvm.engines import own_image
from hostvm.errors import HostvmError, ImageError, MachineError
from hostvm.files import write_atomic
from hostvm.guest_images import stored_image
from hostvm.platform.words import in_turn
from images.recipe import recipe_names
from images.registry.reference import looks_like_reference
from images.store import images_folder, verify_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from images.store import Image

CACHE_FILE = "checked-images.json"
_UNTOUCHED = "Machine {} was not started, and its data were not touched."
_KEPT = 32


def machine_image(paths: MachinePaths, spec: MachineSpec, digest: str) -> Image:
    """The stored image of a machine.

    :param digest: "sha256:...".
    :raises ImageError: it is not here, as in a HOSTVM_HOME that came from another computer, or damaged; with what gives
        the machine a sound one.
    """
    try:
        return stored_image(digest)
    except ImageError as fault:
        digest = digest.removeprefix("sha256:")
        if _is_here(digest):
            raise _damaged(paths, spec, digest, fault) from fault
        raise ImageError(
            f"image {digest[:12]} of machine {paths.name} is not on this computer",
            f"it is not in {images_folder(places.cache())}; the machine's data are as they were",
            f"{_upgrade(paths, spec)}\nor {_bring(digest)}",
        ) from fault


def require_image_of_memory(paths: MachinePaths, digest: str) -> None:
    """See that the image of a suspended machine is here: it goes on with that one alone.

    :raises MachineError: it is not, or is damaged.
    """
    try:
        stored_image(digest)
    except ImageError as fault:
        digest = digest.removeprefix("sha256:")
        is_here = _is_here(digest)
        why = fault.details if is_here else f"its image {digest[:12]} is not in {images_folder(places.cache())}"
        remove = f"hostvm image rm {digest[:12]}, then " if is_here else ""
        anew = in_turn(f"hostvm stop --force {paths.name}", f"hostvm upgrade {paths.name}")
        raise MachineError(
            f"machine {paths.name} cannot be resumed",
            f"{why}; its saved memory and its data are as they were",
            f"{remove}{_bring(digest)}\nor give up its saved memory, as in a power cut: {anew}",
        ) from fault


def _is_here(digest: str) -> bool:
    return (images_folder(places.cache()) / digest).is_dir()


def _bring(digest: str) -> str:
    short = digest[:12]
    there = f"hostvm image export -o {short}.img {short}"
    # What was built is not signed; whoever changed it, it would not be the one that this machine names.
    return f"bring the same: {there}   # where it is; here: hostvm image import --allow-unsigned {short}.img"


def begin_check(paths: MachinePaths, spec: MachineSpec, image: Image) -> Callable[[], None]:
    """Begin to look at a machine's image, in a thread where it must be read; gives what waits for the end.

    That one raises ImageError when the image is damaged, with what gives the machine a sound one.
    """
    seen = [host_boot(), *_look(image)]
    if _load().get(image.digest) == seen:
        return lambda: None
    ended: list[HostvmError | None] = []
    thread = threading.Thread(target=lambda: ended.append(_fault(image)), name="image", daemon=True)
    thread.start()

    def wait() -> None:
        thread.join()
        (fault,) = ended
        if fault is not None:
            raise _damaged(paths, spec, image.digest, fault) from fault
        _note(image, seen)  # as it looked before: what was changed meanwhile is read once more

    return wait


def _fault(image: Image) -> HostvmError | None:
    try:
        verify_image(image)
    except HostvmError as fault:
        return fault
    return None


def _look(image: Image) -> list[list[int]]:
    """Of each file what changes when it does, or when another takes its place: size, last change (ns), inode number."""
    found = [(image.path / name).stat() for name in sorted(image.manifest["files"])]
    return [[one.st_size, one.st_mtime_ns, one.st_ino] for one in found]


def _load() -> dict[str, Any]:
    try:
        known = json.loads((places.cache() / CACHE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _note(image: Image, seen: list[Any]) -> None:
    """Losing it, or an entry to another start's, costs one more look; so writers need no lock."""
    known = _load()
    known.pop(image.digest, None)
    kept = dict([*known.items(), (image.digest, seen)][-_KEPT:])
    with suppress(OSError):
        write_atomic(places.cache() / CACHE_FILE, json.dumps(kept).encode())


def _damaged(paths: MachinePaths, spec: MachineSpec, digest: str, fault: HostvmError) -> ImageError:
    remove = f"hostvm image rm {digest[:12]}"
    if paths.folder.name != paths.name:
        way = f"{remove}   # and once more: what machines begin from is made anew, with its image"
    elif _is_named_anew(spec):
        way = in_turn(remove, _upgrade(paths, spec, " again"))
    else:
        way = (
            f"{remove}   # then bring it again: hostvm image import FILE, or hostvm image pull REFERENCE\n"
            f"or {_upgrade(paths, spec)}"
        )
    return ImageError(f"image {digest[:12]} is damaged", f"{fault.details}\n{_UNTOUCHED.format(paths.name)}", way)


def _is_named_anew(spec: MachineSpec) -> bool:
    """Whether the machine's word for its image brings one that is gone."""
    return looks_like_reference(spec.image) or spec.image in recipe_names()


def _upgrade(paths: MachinePaths, spec: MachineSpec, again: str = "") -> str:
    if looks_like_reference(spec.image):
        return f"hostvm upgrade {paths.name}   # pulls {spec.image}{again}"
    if _is_named_anew(spec):
        return f"hostvm upgrade {paths.name}   # builds the image {spec.image}{again}"
    return f"take another one: hostvm upgrade {paths.name} --image {own_image(spec.engine, rootless=spec.rootless)}"
