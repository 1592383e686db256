"""A guest image as an OCI artefact: what a registry and an exported file hold. Pure: bytes in, bytes out.

    OCI manifest   artifactType application/vnd.hostvm.guest-image.v1
      config       the image's manifest.json itself, so its digest is the image's
      layers       signatures (minisign), a package list (SPDX), then vmlinuz, initramfs, root.erofs as they are

Small things come first, so that a reader knows what to expect of the big ones, and who signed that, before it
takes a byte of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from images.archive.versions import is_version
from images.artefact.minisign import MOST_BYTES
from images.errors import ImageError
from images.oci import MANIFEST_TYPE
from images.records import MOST_SIGNATURES
from images.store import FORMAT, PARTS, WORD, manifest_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

ARTIFACT_TYPE = "application/vnd.hostvm.guest-image.v1"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.hostvm.guest-image.manifest.v1+json"
PART_TYPE = "application/vnd.hostvm.guest-image.part.v1"
SIGNATURE_TYPE = "application/vnd.hostvm.signature.minisign.v1"
SBOM_TYPE = "application/spdx+json"
TITLE = "org.opencontainers.image.title"
SMALL = 4 << 20
"""Bytes that anything but a part may have, so that it can be held in memory."""
MOST_LAYERS = 64
MOST_MEMBERS = 64

_KINDS = (ARTIFACT_TYPE, CONFIG_TYPE)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LAST = 253_402_300_799
"""Seconds since 1970 until the year 10000, when calendars end."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes known by their hash.

    :param sha256: hex.
    :param title: a part's file name, or what the small one is.
    """

    sha256: str
    size: int
    media_type: str
    title: str = ""

    def descriptor(self) -> dict[str, Any]:
        """As OCI writes it."""
        named = {"annotations": {TITLE: self.title}} if self.title else {}
        return {"mediaType": self.media_type, "digest": f"sha256:{self.sha256}", "size": self.size, **named}


@dataclass(frozen=True, slots=True)
class Artefact:
    """What the OCI manifest says. `small` has the content of the small blobs when this side made them."""

    manifest: bytes
    config: Blob
    layers: tuple[Blob, ...]
    small: dict[str, bytes] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the OCI manifest; what REGISTRY/NAME@sha256:… speaks of."""
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def parts(self) -> tuple[Blob, ...]:
        """The files of the image."""
        return tuple(layer for layer in self.layers if layer.media_type == PART_TYPE)

    @property
    def signatures(self) -> tuple[Blob, ...]:
        """Signature files over the image's manifest."""
        return tuple(layer for layer in self.layers if layer.media_type == SIGNATURE_TYPE)


def make_artefact(manifest: dict[str, Any], signatures: Sequence[str], sbom: bytes) -> Artefact:
    """Describe an image; the same image, signatures and package list give the same bytes.

    :param manifest: the image's.
    """
    small: dict[str, bytes] = {}

    def keep(data: bytes, media_type: str, title: str = "") -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        small[digest] = data
        return Blob(digest, len(data), media_type, title)

    config = keep(manifest_bytes(manifest), CONFIG_TYPE)
    layers = [
        *(keep(text.encode(), SIGNATURE_TYPE, "manifest.json.minisig") for text in signatures),
        keep(sbom, SBOM_TYPE, "sbom.spdx.json"),
        *(Blob(sha256, size, PART_TYPE, name) for name, (sha256, size) in parts_of(manifest).items()),
    ]
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
        "annotations": {
            "org.opencontainers.image.title": f"{manifest['name']} {manifest['suite']} {manifest['arch']}",
            "org.opencontainers.image.version": config.sha256[:12],
        },
    }
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return Artefact(data, config, tuple(layers), small)


@dataclass(frozen=True, slots=True)
class Member:
    """What an OCI index says of one of its manifests.

    :param digest: `sha256:…` of the OCI manifest.
    :param arch: "" where it does not tell.
    :param is_guest_image: False where it does not tell.
    """

    digest: str
    arch: str
    is_guest_image: bool


def index_members(data: bytes) -> list[Member]:
    """What an OCI index lists that is a guest image or may be one; empty when it is no index."""
    try:
        content = _mapping(json.loads(data))
    except (ValueError, RecursionError):
        return []
    listed = content.get("manifests")
    if content.get("mediaType", INDEX_TYPE) != INDEX_TYPE or not isinstance(listed, list):
        return []
    found: dict[str, Member] = {}
    for one in map(_mapping, listed[:MOST_MEMBERS]):
        digest, arch = str(one.get("digest")), _mapping(one.get("platform")).get("architecture")
        kinds, form = (one.get("artifactType"), content.get("artifactType")), one.get("mediaType")
        if _DIGEST.fullmatch(digest) and (ARTIFACT_TYPE in kinds or (kinds == (None, None) and form == MANIFEST_TYPE)):
            known = arch if isinstance(arch, str) and WORD.fullmatch(arch) else ""
            found[digest] = Member(digest, known, is_guest_image=ARTIFACT_TYPE in kinds)
    return list(found.values())


def is_guest_image(data: bytes) -> bool:
    """Whether an OCI manifest says so of itself; what it says else may be wrong."""
    try:
        return _kind(_mapping(json.loads(data))) in _KINDS
    except (ValueError, RecursionError):
        return False


def parse_artefact(data: bytes, where: str) -> Artefact:
    """Read an OCI manifest, believing nothing of it.

    :raises ImageError: it is no guest image's, or what it says cannot be.
    """
    content = _json(data, where)
    kind = _kind(content)
    if kind not in _KINDS:
        raise ImageError(
            f"{where} is not a guest image",
            f"It says of itself that it is {kind or content.get('mediaType') or 'nothing'}.",
            "Container images are for the engine: `hostvm docker pull`, `hostvm docker load`",
        )
    listed = content.get("layers")
    if not isinstance(listed, list) or len(listed) > MOST_LAYERS:
        raise refused(where, "its list of layers is missing or too long")
    config = _blob(content.get("config"), where)
    layers = tuple(_blob(item, where) for item in listed)
    for blob in (config, *(layer for layer in layers if layer.media_type != PART_TYPE)):
        most = MOST_BYTES if blob.media_type == SIGNATURE_TYPE else SMALL
        if blob.size > most:
            raise refused(where, f"{blob.title or blob.media_type} has {blob.size} bytes, more than {most}")
    artefact = Artefact(data, config, layers)
    if len(artefact.signatures) > MOST_SIGNATURES:
        raise refused(where, f"it has {len(artefact.signatures)} signatures, more than {MOST_SIGNATURES}")
    return artefact


def check_manifest(data: bytes, artefact: Artefact, where: str) -> dict[str, Any]:
    """The image's own manifest, once it agrees with the artefact around it.

    :raises ImageError: as `parse_manifest`, or they disagree.
    """
    manifest = parse_manifest(data, where)
    promised, carried = parts_of(manifest), {blob.title: (blob.sha256, blob.size) for blob in artefact.parts}
    if promised != carried or len(artefact.parts) != len(PARTS):
        raise refused(where, f"its parts ({', '.join(map(repr, carried))}) are not those of its manifest")
    return manifest


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """Read an image's own manifest, believing nothing of it.

    :raises ImageError: another version's, or what it says cannot be.
    """
    manifest = _json(data, where)
    if manifest.get("format") != FORMAT:
        raise ImageError(
            f"{where} is an image of another version of hostvm",
            f"Its format is {manifest.get('format')!r}, this version reads {FORMAT}.",
            "Upgrade: `pip install --upgrade hostvm`, or build one: `hostvm image build`",
        )
    for key in ("name", "arch", "suite", "kernel_release"):
        if not isinstance(manifest.get(key), str) or not WORD.fullmatch(manifest[key]):
            raise refused(where, f"its manifest's {key} is {manifest.get(key)!r}")
    if not _is_size(manifest.get("date")) or manifest["date"] > _LAST or not isinstance(manifest.get("packages"), list):
        raise refused(where, "its manifest has no date or no packages")
    if not isinstance(manifest.get("downloads", []), list):
        raise refused(where, "its manifest's downloads are no list")
    if not all(isinstance(manifest.get(key), str) for key in ("console", "cmdline", "cmdline_tcg", "recipe")):
        raise refused(where, "its manifest has no kernel parameters or no recipe")
    _check_contents(manifest, where)
    _check_origin(manifest, where)
    if not _is_spelled(manifest, data):
        raise refused(where, "its manifest is not written the one way it should be")
    files = _mapping(manifest.get("files"))
    if set(files) != set(PARTS) or not all(_is_part(part) for part in files.values()):
        raise refused(where, f"its manifest's files are {files!r}"[:200])
    return manifest


def _check_contents(manifest: dict[str, Any], where: str) -> None:
    for package in manifest["packages"]:
        if not all(
            isinstance(package, dict) and isinstance(package.get(key), str) and WORD.fullmatch(package[key])
            for key in ("name", "version", "arch", "sha256")
        ) or not is_version(package["version"]):
            raise refused(where, f"its manifest lists a package as {package!r}"[:200])
    for one in manifest.get("downloads", []):
        words = isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("name", "sha256", "url"))
        if not words or not re.fullmatch(r"[0-9a-f]{64}", one["sha256"]):
            raise refused(where, f"its manifest lists a download as {one!r}"[:200])


def _check_origin(manifest: dict[str, Any], where: str) -> None:
    """What an image may leave out."""
    tools, suites = manifest.get("packed_by", []), manifest.get("suites", {})
    if not isinstance(tools, list) or not all(isinstance(tool, str) for tool in tools):
        raise refused(where, f"its manifest says that it was packed by {tools!r}"[:200])
    if not isinstance(suites, dict) or not all(isinstance(one, str) and WORD.fullmatch(one) for one in suites.values()):
        raise refused(where, f"its manifest's suites are {suites!r}"[:200])


def _is_spelled(manifest: dict[str, Any], data: bytes) -> bool:
    try:
        return manifest_bytes(manifest) == data
    except (UnicodeEncodeError, RecursionError):  # JSON can name halves of characters, and nest deeply
        return False


def parts_of(manifest: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """The sha256 and size of each part, small ones first."""
    return {name: (manifest["files"][name]["sha256"], manifest["files"][name]["size"]) for name in PARTS}


def refused(where: str, why: str) -> ImageError:
    """The one error of everything that is not as it should be."""
    return ImageError(
        f"{where} is damaged or was changed: it is refused",
        f"{why[0].upper()}{why[1:]}. Nothing of it was stored.",
        "Get it again from whoever made it",
    )


def _kind(content: dict[str, Any]) -> Any:
    return content.get("artifactType") or _mapping(content.get("config")).get("mediaType")


def _is_part(data: Any) -> bool:
    sha256, size = _mapping(data).get("sha256"), _mapping(data).get("size")
    return isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256) is not None and _is_size(size)


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _blob(data: Any, where: str) -> Blob:
    inner = _mapping(data)
    match = _DIGEST.fullmatch(str(inner.get("digest")))
    size, media_type = inner.get("size"), inner.get("mediaType")
    title = _mapping(inner.get("annotations")).get(TITLE, "")
    if match is None or not isinstance(size, int) or not _is_size(size):
        raise refused(where, f"a layer has digest {inner.get('digest')!r} and size {size!r}"[:200])
    if not isinstance(media_type, str) or not isinstance(title, str):
        raise refused(where, "a layer has no type or no name")
    return Blob(match[1], size, media_type, title)


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refused(where, f"its description cannot be read: {error}"[:200]) from error
    if not isinstance(content, dict):
        raise refused(where, "its description is no mapping")
    return content
