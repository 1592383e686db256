"""Images on disk, named by what they are.

    CACHE/images/sha256/DIGEST/   one image; DIGEST is the sha256 of its manifest.json
        vmlinuz  initramfs  root.erofs  manifest.json, and origins.json of one that was built here
    CACHE/images/.new-…           being made; left-overs are removed by the next build
    CACHE/images/.lock            held while one is made

The manifest holds the sha256 of all that a machine uses, so the name vouches for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from images.disk import UNFINISHED, disk_full_explained, replace_folder, sha256_file
from images.errors import HashError, ImageError
from images.records import find_references, remove_record

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
MANIFEST, KERNEL, INITRAMFS, ROOT = "manifest.json", "vmlinuz", "initramfs", "root.erofs"
PARTS = (KERNEL, INITRAMFS, ROOT)
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~_-]{0,127}\Z")
"""What an image is called, and other words of a manifest: shown in tables and built into paths and purls."""

_DIGEST, _SHOWN = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{12,64}")
"""A whole one, and what is shown of one at least."""

_LISTED = {"name": str, "arch": str, "suite": str, "date": int}
"""What every list of images needs of a manifest."""

_LATER = 10_000_000
"""Nanoseconds that every file system tells apart."""


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image.

    :param digest: hex sha256 of its manifest; with `sha256:` before it, what `--image` takes.
    """

    digest: str
    path: Path
    manifest: dict[str, Any]

    @property
    def kernel(self) -> Path:
        """For direct boot."""
        return self.path / KERNEL

    @property
    def initramfs(self) -> Path:
        """Uncompressed; a machine's own cpio archive may follow it."""
        return self.path / INITRAMFS

    @property
    def root(self) -> Path:
        """The read-only erofs root, raw."""
        return self.path / ROOT

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.manifest["name"])

    @property
    def arch(self) -> str:
        """Debian's name of the architecture."""
        return str(self.manifest["arch"])

    @property
    def suite(self) -> str:
        """The Debian suite it was made from."""
        return str(self.manifest["suite"])

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(int(part["size"]) for part in self.manifest["files"].values())


def images_folder(cache: Path) -> Path:
    """Where images lie."""
    return cache / "images" / "sha256"


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """The one spelling of a manifest, so that equal ones have equal digests."""
    return (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def describe_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """The `files` section of a manifest."""
    return {name: {"sha256": sha256_file(folder / name), "size": (folder / name).stat().st_size} for name in PARTS}


def store_image(folder: Path, manifest: dict[str, Any], cache: Path) -> Image:
    """Move a finished folder of parts to its place; when the same image is there already and sound, that one is kept.

    :param folder: as of `replace_folder`.
    :raises DiskFullError: no space; nothing is stored.
    """
    data = manifest_bytes(manifest)
    digest = hashlib.sha256(data).hexdigest()
    target = images_folder(cache) / digest
    with disk_full_explained(cache):
        (folder / MANIFEST).write_bytes(data)
        if find_sound(cache, digest) is None:
            replace_folder(folder, target)
            note_made(open_image(target))
    return note_use(open_image(target))


def open_image(path: Path) -> Image:
    """Read a stored image's manifest; sizes are compared, contents are not (see `verify_image`).

    :raises ImageError: it is damaged.
    """
    try:
        return Image(path.name, path, _read_manifest(path))
    except _UnsoundError as fault:
        raise ImageError(f"image {path.name[:12]} is damaged", str(fault), _way(path.name)) from fault


def find_sound(cache: Path, digest: str) -> Image | None:
    """The stored image of that whole digest, once every byte of it was read and compared; None when it is not sound."""
    try:
        image = open_image(images_folder(cache) / digest)
        verify_image(image)
    except ImageError:
        return None
    return image


def note_use(image: Image) -> Image:
    """The same image; `image prune` leaves it for some minutes, until whoever asked for it wrote down who needs it."""
    with suppress(OSError):
        os.utime(image.path)
    return image


def list_images(cache: Path) -> list[Image]:
    """Every sound image, newest release first; of one release what was made, or asked for, last."""
    found = []
    for path in _folders(cache):
        try:
            found.append(open_image(path))
        except ImageError:
            continue  # `image ls` shows it through list_damaged
    return sorted(found, key=lambda image: (-int(image.manifest["date"]), -_made(image), image.digest))


def note_made(image: Image) -> None:
    """It was made, once more too, or would have been: of several of its release it is what its name means.

    So it is later than the others, though the clock was set back since they were made.
    """
    others = [_made(other) for other in list_images(image.path.parents[2]) if other.digest != image.digest]
    moment = max([time.time_ns(), *(made + _LATER for made in others)])
    with suppress(OSError):
        os.utime(image.path / MANIFEST, ns=(moment, moment))


def _made(image: Image) -> int:
    try:
        return (image.path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0


def list_damaged(cache: Path) -> list[Path]:
    """Folders in the store that are no sound image."""
    return [path for path in _folders(cache) if not _is_image(path)]


def inspect_image(cache: Path, reference: str) -> Image:
    """The image meant by a digest or its beginning (with or without `sha256:`), a recipe's name (newest), or the
    registry reference it came under.

    What is shown of a stored image's digest, and what can only be a digest, is one, whatever else is called so: an
    image's name was chosen by who made it.

    :raises ImageError: none, or several.
    """
    wanted = reference.removeprefix("sha256:")
    images = list_images(cache)
    found = [image for image in images if wanted and image.digest.startswith(wanted)]
    is_name = wanted == reference and not _DIGEST.fullmatch(wanted) and not (found and _SHOWN.fullmatch(wanted))
    by_name = [image for image in images if is_name and image.name == wanted]
    if by_name:
        return by_name[0]
    if (referenced := find_referenced(cache, reference)) is not None:
        return referenced
    if len(found) == 1:
        return found[0]
    if not found:
        raise ImageError(f"no image {reference}", None, "See which there are: `hostvm image ls`")
    raise _ambiguous(reference, [image.digest for image in found])


def _ambiguous(reference: str, digests: list[str]) -> ImageError:
    return ImageError(
        f"{reference} is the beginning of several images", "\n".join(sorted(digests)), "Type more of the digest"
    )


def find_digest(cache: Path, reference: str) -> str:
    """As `inspect_image`, but the digest, and of a damaged image too, which is found by its digest alone.

    :raises ImageError: none, or several.
    """
    wanted = reference.removeprefix("sha256:")
    damaged = [path.name for path in list_damaged(cache) if wanted and path.name.startswith(wanted)]
    sound = []
    try:
        sound.append(inspect_image(cache, reference).digest)
    except ImageError:
        if not damaged:
            raise
    by_digest = [digest for digest in sound if digest.startswith(wanted)]
    if len(by_digest) + len(damaged) > 1:
        raise _ambiguous(reference, [*by_digest, *damaged])
    return (sound or damaged)[0]


def find_referenced(cache: Path, reference: str) -> Image | None:
    """The sound image that a registry reference was resolved to, if it is stored."""
    for digest, names in find_references(cache).items():
        if reference in names:
            with suppress(ImageError):
                return open_image(images_folder(cache) / digest)
    return None


def verify_image(image: Image) -> None:
    """Read every byte and compare.

    :raises HashError: a file was changed, or cannot be read.
    """
    for name, part in image.manifest["files"].items():
        try:
            same, why = sha256_file(image.path / name) == part["sha256"], None
        except OSError as error:  # a disk may refuse to read its bad blocks
            same, why = False, str(error)
        if not same:
            raise damaged(image, name, why)


def damaged(image: Image, name: str, why: str | None = None) -> HashError:
    """The one error for a file of an image that is not what its manifest says.

    :param why: it cannot be read.
    """
    return HashError(
        f"image {image.digest[:12]} is damaged", why or f"{image.path / name} was changed.", _way(image.digest)
    )


def _way(digest: str) -> str:
    return f"`hostvm image rm {digest[:12]}`, then `hostvm image build`"


def remove_image(cache: Path, digest: str) -> None:
    """Remove an image, damaged or not, by its whole digest. Machines that use it do not start any more.

    :raises ImageError: there is none.
    """
    path = images_folder(cache) / digest
    if _DIGEST.fullmatch(digest) is None or not path.is_dir():
        raise ImageError(f"no image {digest}", None, "See which there are: `hostvm image ls`")
    remove_record(cache, digest)
    # Renamed first: an image that is half removed must not be found.
    doomed = path.parent.parent / f"{UNFINISHED}{digest}-removed"
    path.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)  # what is left, whoever makes an image next removes, perhaps now


def _folders(cache: Path) -> list[Path]:
    try:
        return sorted(path for path in images_folder(cache).iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


class _UnsoundError(Exception):
    """Why a folder is no sound image."""


def _is_image(path: Path) -> bool:
    try:
        _read_manifest(path)
    except _UnsoundError:
        return False
    return True


def _read_manifest(path: Path) -> dict[str, Any]:
    """That of an image whose files are there, with their sizes.

    :raises _UnsoundError: otherwise.
    """
    try:
        data = (path / MANIFEST).read_bytes()
        if hashlib.sha256(data).hexdigest() != path.name:
            raise _UnsoundError(f"{path / MANIFEST} was changed.")
        manifest: dict[str, Any] = json.loads(data)
        if manifest.get("format") != FORMAT:
            raise _UnsoundError(f"Its format is {manifest.get('format')}, this version reads {FORMAT}.")
        for name, part in manifest["files"].items():
            if (path / name).stat().st_size != part["size"]:
                raise _UnsoundError(f"{path / name} has another size than its manifest says.")
        if not all(isinstance(manifest[key], kind) for key, kind in _LISTED.items()):
            raise _UnsoundError(f"{path / MANIFEST} is of no image.")
    except OSError as error:
        raise _UnsoundError(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Its name is its hash: somebody made it so.
        raise _UnsoundError(f"{path / MANIFEST} is of no image: {error!r}"[:200]) from error
    return manifest
