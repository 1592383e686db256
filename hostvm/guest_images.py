"""Guest images for machines: the stored one, or one built now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostvm.accel import host_arch, select_accel
from hostvm.builder import QemuBuilder
from hostvm.errors import UsageError
from hostvm.paths import cache
from images.build import build_image, find_image
from images.recipe import find_recipe
from images.store import images_folder, inspect_image, open_image

if TYPE_CHECKING:
    from hostvm.qemu_binary import QemuBinary
    from images.bake import BakeJob
    from images.progress import Progress
    from images.store import Image

ARCHES = ("amd64", "arm64")
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


def ensure_image(reference: str, progress: Progress) -> Image:
    """The image meant by a digest, which must be stored, or by a recipe's name, which is built when missing.

    :raises ImageError: there is no such image or recipe, or the build failed.
    """
    if _DIGEST.fullmatch(reference):
        return inspect_image(cache(), reference)
    recipe, arch = find_recipe(reference), guest_arch()
    found = find_image(recipe, arch, None, cache())
    if found is not None:
        return found
    progress.note(f"the guest image '{reference}' is not there yet and is built now, once")
    return build_image(recipe, arch, None, None, cache(), make_builder(), progress)


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
