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
from hostvm.errors import HostvmError, ImageError
from hostvm.files import write_atomic
from hostvm.platform.words import in_turn
from images.recipe import recipe_names
from images.registry.reference import looks_like_reference
from images.store import verify_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from images.store import Image

CACHE_FILE = "checked-images.json"
_KEPT = 32


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
            raise _damaged(paths, spec, image, fault) from fault
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


def _damaged(paths: MachinePaths, spec: MachineSpec, image: Image, fault: HostvmError) -> ImageError:
    remove = f"hostvm image rm {image.digest[:12]}"
    if paths.folder.name != paths.name:
        way = f"{remove}   # and once more: what machines begin from is made anew, with its image"
    elif looks_like_reference(spec.image):
        way = in_turn(remove, f"hostvm upgrade {paths.name}   # pulls {spec.image} again")
    elif spec.image in recipe_names():
        way = in_turn(remove, f"hostvm upgrade {paths.name}   # builds the image {spec.image} again")
    else:
        own = own_image(spec.engine, rootless=spec.rootless)
        way = (
            f"{remove}   # then bring it again: hostvm image import FILE, or hostvm image pull REFERENCE\n"
            f"or take another one: hostvm upgrade {paths.name} --image {own}"
        )
    told = f"{fault.details}\nMachine {paths.name} was not started, and its data were not touched."
    return ImageError(f"image {image.digest[:12]} is damaged", told, way)
