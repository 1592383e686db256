"""Guest images for machines: the stored one, or one built now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostvm.accel import host_arch, select_accel
from hostvm.builder import QemuBuilder
from hostvm.engines import ENGINES, own_image
from hostvm.errors import ImageError, UsageError
from hostvm.paths import cache, image_keys
from hostvm.qemu_binary import find_qemu
from images.errors import MirrorError, OutOfDateError, RegistryError
from images.recipe import find_recipe, recipe_names
from images.registry.reference import looks_like_reference, parse_reference
from images.store import find_referenced, images_folder, inspect_image, list_images, note_use, open_image

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.qemu_binary import QemuBinary
    from images.bake import BakeJob
    from images.progress import Progress
    from images.registry.client import Access
    from images.store import Image

ARCHES = ("amd64", "arm64")
ANY_ARCH = "auto"
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{6,64}")


def guest_arch() -> str:
    """The architecture of this computer's guests.

    :raises UsageError: guests are not made for it.
    """
    arch = host_arch()
    if arch not in ARCHES:
        raise UsageError(
            f"hostvm does not run on a {arch} computer",
            f"guests are made for {' and '.join(ARCHES)}",
            "use a computer with one of these processors",
        )
    return arch


def make_builder() -> QemuBuilder:
    """Builder guests run under the best accelerator that works here."""
    return QemuBuilder(_choose_accel)


def _choose_accel(job: BakeJob, qemu: QemuBinary, progress: Progress) -> str:
    return select_accel("auto", qemu=qemu, kernel=job.kernel, cache_dir=cache(), progress=progress)


def registry_access(host: str, *, insecure: bool = False, ca: Path | None = None) -> Access:
    """How this user reaches a registry: with what `docker login` left."""
    from hostvm.registry_login import find_credentials
    from images.registry.client import Access

    return Access(lambda: find_credentials(host), insecure, ca)


def ensure_image(reference: str, progress: Progress, arch: str = ANY_ARCH) -> Image:
    """The image that a word means, built or fetched when it is missing.

    A digest must be stored. A registry reference that came before is the image it was then; another one is pulled,
    and must be signed by a trusted key. A recipe's name is built; another name is the newest stored image of it.

    :param arch: which one is wanted; "auto" is this computer's, or that of the image where a word means only one.
    :raises ImageError: there is no such image or recipe, or the build failed, or nobody trusted signed it.
    :raises DriverError: there is no QEMU for a foreign architecture.
    """
    return note_use(_ensure(reference, progress, arch))


def _ensure(reference: str, progress: Progress, arch: str) -> Image:
    if _DIGEST.fullmatch(reference):
        return _of_arch(inspect_image(cache(), reference), arch)
    if looks_like_reference(reference):
        return _of_arch(_ensure_pulled(reference, progress, arch), arch)
    if reference not in recipe_names() and any(image.name == reference for image in list_images(cache())):
        return _named(reference, arch)
    from images.build import build_image, find_image  # a tenth of all that a start imports

    recipe, arch = find_recipe(reference), _own_if_any(arch)
    found = find_image(recipe, arch, None, cache())
    if found is not None:
        return found
    for_arch = ""
    if arch != host_arch():
        find_qemu(arch)  # is seldom there: said before anything is downloaded
        for_arch = f" for {arch}"
    progress.note(f"the guest image '{reference}'{for_arch} is not there yet and is built now, once")
    return build_image(recipe, arch, None, None, cache(), make_builder(), progress)


def _own_if_any(arch: str) -> str:
    return guest_arch() if arch == ANY_ARCH else arch


def _named(name: str, arch: str) -> Image:
    """The newest stored image of a name: of this computer's architecture if there is one and no other was asked for.

    :raises ImageError: there is none of that architecture.
    """
    images = [image for image in list_images(cache()) if image.name == name]
    own = [image for image in images if image.arch in {arch, host_arch() if arch == ANY_ARCH else arch}]
    return own[0] if own else _of_arch(images[0], arch)


def _of_arch(image: Image, arch: str) -> Image:
    """:raises ImageError: it is of another architecture than was asked for."""
    if arch not in {ANY_ARCH, image.arch}:
        raise ImageError(
            f"image {image.digest[:12]} is of {image.arch}, not of {arch}",
            None,
            f"leave the architecture to the image: --arch auto; or build one: hostvm image build --arch {arch}",
        )
    return image


def require_engine(image: Image, engine: str, *, rootless: bool) -> None:
    """See that an image holds a machine's engine, with root's rights or without as the machine's.

    :raises ImageError: it holds another one.
    """
    holds = str(image.manifest.get("engine", ENGINES[0]))  # older ones do not say: there was one engine
    if holds == engine and image.manifest.get("rootless", False) != rootless:
        # What the one wrote, the other can neither read nor own.
        raise ImageError(
            f"image {image.name} holds an engine {'with' if rootless else 'without'} root's rights",
            f"machine.yaml says rootless: {str(rootless).lower()}, which is decided when a machine is made",
            f"take the image {own_image(engine, rootless=rootless)}, or one made from its recipe",
        )
    if holds != engine:
        raise ImageError(
            f"image {image.name} holds {holds}, not {engine}",
            f"a machine with the engine {engine} cannot boot it",
            f"hostvm start NAME --engine {engine}   # brings its own image; or: --engine {holds} --image {image.name}",
        )


def _ensure_pulled(text: str, progress: Progress, arch: str) -> Image:
    reference = parse_reference(text)
    known = find_referenced(cache(), str(reference))
    if known is not None and arch in {ANY_ARCH, known.arch}:
        return known
    progress.note(f"the guest image {reference} is not here yet and is pulled now, once")
    try:
        return _pull(text, progress, arch)
    except RegistryError as fault:
        if known is None:
            raise
        first = f"{fault.resolution}\n" if fault.resolution else ""
        raise RegistryError(
            f"{reference} is stored for {known.arch}, and could not be pulled for {arch}",
            "\n".join(part for part in (fault.brief, fault.details) if part),
            f"{first}or take the one that is stored: --arch {known.arch}",
        ) from fault


def _pull(text: str, progress: Progress, arch: str) -> Image:
    from images.artefact.trust import KeyRing
    from images.errors import SignatureError
    from images.registry.transfer import pull_image

    reference = parse_reference(text)
    access, ring = registry_access(reference.host), KeyRing(image_keys())
    try:
        wanted = "" if arch == ANY_ARCH else arch
        return pull_image(reference, access, cache(), ring, progress, arch=wanted, own=host_arch()).image
    except SignatureError as error:
        first = f"Or take it as it is, before the machine is made: `hostvm image pull --allow-unsigned {reference}`"
        raise SignatureError(error.brief, error.details, f"{error.resolution}\n{first}") from error


def newest_image(reference: str, progress: Progress, arch: str = ANY_ARCH) -> Image:
    """What the word of a machine's `image:` means now: a recipe is built from the archive as it is, a tag pulled anew.

    Without a mirror it is the newest stored image of that name, with one that stands still only if that is asked for
    by its digest. A digest is what it is.

    :param arch: as of `ensure_image`.
    :raises ImageError: as `ensure_image`.
    """
    return note_use(_newest(reference, progress, arch))


def _newest(reference: str, progress: Progress, arch: str) -> Image:
    if _DIGEST.fullmatch(reference):
        return inspect_image(cache(), reference)
    if looks_like_reference(reference):
        return _pull(reference, progress, arch)
    if reference not in recipe_names():
        return ensure_image(reference, progress, arch)
    from images.build import build_image

    try:
        return build_image(find_recipe(reference), _own_if_any(arch), None, None, cache(), make_builder(), progress)
    except MirrorError as fault:
        known = newest_stored(reference, arch)
        if known is None:
            raise
        progress.note(f"{fault.brief}; taking the newest image that is stored")
        return known
    except OutOfDateError as fault:
        known = newest_stored(reference, arch)
        if known is None:
            raise
        instead = f"Or take the newest image that is stored: `hostvm upgrade NAME --image {known.digest[:12]}`"
        raise OutOfDateError(fault.brief, fault.details, f"{fault.resolution}\n{instead}") from fault


def newest_stored(reference: str, arch: str = ANY_ARCH) -> Image | None:
    """The newest stored image of a word, of this hostvm's recipe where there is one; None without one.

    :param arch: as of `ensure_image`.
    """
    if reference in recipe_names() and not looks_like_reference(reference):
        from images.build import find_image

        found = find_image(find_recipe(reference), _own_if_any(arch), None, cache())
        if found is not None:
            return found
    try:
        if not _DIGEST.fullmatch(reference) and any(image.name == reference for image in list_images(cache())):
            return _named(reference, arch)
        return _of_arch(inspect_image(cache(), reference), arch)
    except ImageError:
        return None


def news(image: Image, progress: Progress) -> tuple[int, int]:
    """How many of the image's packages are newer in the archive now, and how many of these for security.

    :raises HostvmError: the archive does not answer.
    """
    from images.compare import outdated

    found = outdated(image.manifest, None, cache(), progress)
    return len(found), sum(one.security for one in found)


def stored_image(digest: str) -> Image:
    """The image that a machine was made with.

    :raises ImageError: it is no longer stored, or is damaged.
    """
    return open_image(images_folder(cache()) / digest.removeprefix("sha256:"))


def kernel_cmdline(manifest: dict[str, str], accel: str) -> str:
    """The kernel's parameters for a guest of this image."""
    words = [f"console={manifest['console']}", manifest["cmdline"]]
    if accel == "tcg":
        words.append(manifest["cmdline_tcg"])
    return " ".join(word for word in words if word)
