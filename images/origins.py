"""Where an image's root has what came from packages, so that the next image need not unpack and pack it again.

CACHE/images/sha256/DIGEST/origins.json   beside an image that was built here; goes with it, is never sent along

Its first line is the sha256 of the second. One that is damaged, or of other code, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from images.erofs import Place
from images.members import FILE, Member, Members
from images.tree import Slice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from images.rootfs import Unpacked
    from images.store import Image

ORIGINS = "origins.json"
FORMAT = 1
"""Of what is noted; images without, or of another one, are built upon by nobody."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A package in an image's root.

    :param places: of its files' content that is there, by the content's offset in data.tar.
    :param plain: of modules that are there decompressed, likewise: the place, and bytes of content.
    """

    members: Members
    places: Mapping[int, Place]
    plain: Mapping[int, tuple[Place, int]]


def write_origins(
    image: Image,
    facts: Mapping[str, Any],
    packages: Iterable[Unpacked],
    placed: Mapping[Slice, Place],
    plain: Mapping[Slice, Slice],
    work: Path,
) -> None:
    """Note it beside the image; if that cannot be, the next build takes longer.

    :param facts: what must be the same for another build to take something from this one.
    :param placed: of `write_erofs`.
    :param plain: of `ModuleSet`.
    :param work: a folder of the same file system.
    """
    found = {item.package.sha256: _package(item, placed, plain) for item in packages}
    noted = {"format": FORMAT, "image": image.digest, "facts": facts, "packages": found}
    body = json.dumps(noted, separators=(",", ":")).encode()
    with suppress(OSError):
        made = work / ORIGINS
        made.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        made.replace(image.path / ORIGINS)


def _package(item: Unpacked, placed: Mapping[Slice, Place], plain: Mapping[Slice, Slice]) -> dict[str, Any]:
    places, modules = [], []
    for member in item.members.entries:
        content = Slice(item.data, member.offset, member.size)
        if member.type != FILE:
            continue
        if content in placed:
            places.append([member.offset, *placed[content]])
        module = plain.get(content)
        if module is not None and module in placed:
            modules.append([member.offset, module.size, *placed[module]])
    return {"newest": item.members.newest, "members": item.members.entries, "places": places, "plain": modules}


def read_origins(image: Image, facts: Mapping[str, Any]) -> dict[str, Origin] | None:
    """What is noted of an image, by the packages' sha256; None of an image that is of no use."""
    try:
        digest, _, body = (image.path / ORIGINS).read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        noted = json.loads(body)
        if (noted["format"], noted["image"], noted["facts"]) != (FORMAT, image.digest, facts):
            return None
        return {sha256: _origin(one) for sha256, one in noted["packages"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _origin(one: dict[str, Any]) -> Origin:
    return Origin(
        Members(one["newest"], tuple(Member(*entry) for entry in one["members"])),
        {offset: _place(*place) for offset, *place in one["places"]},
        {offset: (_place(*place), size) for offset, size, *place in one["plain"]},
    )


def _place(layout: int, where: int, blocks: list[int]) -> Place:
    return Place(layout, where, tuple(blocks))
