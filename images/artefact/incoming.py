"""What a file and a registry have in common: an image is described before it goes, and judged before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.artefact.layout import Artefact, check_manifest, make_artefact, parse_manifest, refused
from images.disk import require_space
from images.errors import ImageError
from images.records import MOST_SIGNATURES, add_record, read_record
from images.sbom import SPDX, make_sbom
from images.store import MANIFEST, Image, find_sound, manifest_bytes, note_use, store_image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from images.artefact.minisign import SecretKey
    from images.artefact.trust import KeyRing, Verdict


@dataclass(frozen=True, slots=True)
class Received:
    """An image that came from elsewhere and is stored now.

    :param fresh: it was not there before, or was damaged.
    """

    image: Image
    verdict: Verdict
    fresh: bool


def sign_and_describe(image: Image, cache: Path, key: SecretKey | None) -> Artefact:
    """The artefact of a stored image with the signatures known of it, and one more when a key is given.

    Signing the same image again with the same key adds nothing: Ed25519 has no randomness.

    :raises ImageError: it has as many signatures as an image may have.
    """
    data = manifest_bytes(image.manifest)
    if key is not None:
        known = read_record(cache, image.digest).signatures
        facts = f"hostvm guest image {image.name} {image.suite} {image.arch} sha256:{image.digest}"
        own = key.sign(data, facts)
        if own not in known and len(known) >= MOST_SIGNATURES:
            raise ImageError(
                f"image {image.digest[:12]} has {len(known)} signatures, and room for no other",
                "They came with it, or with pulls and imports of it since.",
                f"Get it anew from its maker: `hostvm image rm {image.digest[:12]}`, then pull, import or build it",
            )
        add_record(cache, image.digest, signatures=(own,))
    signatures = read_record(cache, image.digest).signatures
    return make_artefact(image.manifest, signatures, make_sbom(SPDX, image.manifest, image.digest))


@dataclass(frozen=True, slots=True)
class Intake:
    """An artefact on its way in: its small blobs are here and checked, its parts are not.

    :param small: content of the small blobs by hash.
    """

    artefact: Artefact
    small: Mapping[str, bytes]
    where: str
    cache: Path
    ring: KeyRing
    allow_unsigned: bool

    @property
    def arch(self) -> str:
        """What the image's manifest says that it is made for."""
        return str(parse_manifest(self.small[self.artefact.config.sha256], self.where)["arch"])

    def judge(self) -> Verdict:
        """Check the image's manifest against the artefact and its signatures against the keys.

        :raises SignatureError: see `KeyRing.judge`.
        :raises ImageError: the manifest does not agree with its parts.
        """
        data = self.small[self.artefact.config.sha256]
        check_manifest(data, self.artefact, self.where)
        return self.ring.judge(data, self._signatures(), allow_unsigned=self.allow_unsigned)

    def stored(self) -> Image | None:
        """The same image when it is in the store and sound; every byte of it is read."""
        return find_sound(self.cache, self.artefact.config.sha256)

    def make_room(self, work: Path, have: int = 0) -> Path:
        """A folder for the parts, once it is clear that they fit.

        :param have: bytes of them that are on the disk already, and will be moved there.
        :raises DiskFullError: they do not.
        """
        require_space(work, sum(part.size for part in self.artefact.parts) - have)
        folder = work / "image"
        folder.mkdir()
        return folder

    def store(self, folder: Path, verdict: Verdict) -> Received:
        """Put a folder of checked parts into the store."""
        manifest = check_manifest(self.small[self.artefact.config.sha256], self.artefact, self.where)
        image = store_image(folder, manifest, self.cache)
        if image.digest != self.artefact.config.sha256:
            raise refused(self.where, f"its {MANIFEST} has another digest")
        return self.note(image, verdict, fresh=True)

    def note(self, image: Image, verdict: Verdict, *, fresh: bool = False) -> Received:
        """Remember the signatures of an image that is stored."""
        add_record(self.cache, image.digest, signatures=self._signatures())
        return Received(note_use(image), verdict, fresh)

    def _signatures(self) -> tuple[str, ...]:
        blobs = self.artefact.signatures
        return tuple(self.small[blob.sha256].decode("utf-8", "replace") for blob in blobs)
