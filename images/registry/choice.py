"""Of a reference that is a list of guest images (an OCI index) the one of the wanted architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.artefact.layout import Member, index_members, is_guest_image, parse_artefact, parse_manifest
from images.errors import ImageError

if TYPE_CHECKING:
    from images.registry.client import Repository
    from images.registry.reference import Reference


def choose_member(repository: Repository, manifest: bytes, arch: str) -> str:
    """The digest of the list's image of an architecture; "" when the manifest is no list of guest images.

    :param arch: "" for none, which no list can serve.
    :raises ImageError: the list has none of it, or several.
    :raises RegistryError: what the list names is not there.
    """
    listed = index_members(manifest)
    looked = [_look(repository, one) if arch and one.arch in ("", arch) else one for one in listed]
    members = {one.digest: one.arch for one in looked if one.is_guest_image}
    if not members:
        return ""
    chosen = [digest for digest, one in members.items() if arch and one == arch]
    if len(chosen) == 1:
        return chosen[0]
    raise _no_choice(repository.reference, members, f", {len(chosen) or 'none'} of {arch}" if arch else "")


def _look(repository: Repository, member: Member) -> Member:
    """What the list does not tell of a member, from itself: most tools that make lists tell neither."""
    if member.is_guest_image and member.arch:
        return member
    reference = repository.reference.at(member.digest)
    data = repository.manifest(reference)
    if not is_guest_image(data):
        return member
    config = repository.blob(parse_artefact(data, str(reference)).config)
    return Member(member.digest, parse_manifest(config, str(reference))["arch"], is_guest_image=True)


def _no_choice(reference: Reference, members: dict[str, str], why: str) -> ImageError:
    return ImageError(
        f"{reference} is a list of {len(members)} guest images{why}",
        f"A reference is one image here; those are of: {', '.join(arch or '?' for arch in members.values())}",
        "\n".join(f"hostvm image pull {reference.at(digest)}   # {arch or '?'}" for digest, arch in members.items()),
    )
