"""Container images as one tar that `docker load`, podman and OCI tools read: an OCI layout with docker's
manifest.json beside it (what `docker save` writes since version 25).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from images.disk import sha256_file
from images.foreign import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container of the image starts with.

    :param arch: as platforms name it: amd64, arm64, arm, …
    :param created: seconds since 1970; the archive's date, never the clock's.
    """

    arch: str
    created: int
    command: tuple[str, ...]
    comment: str
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: tuple[str, ...] = ()


def image_config(config: ContainerConfig, diff_id: str) -> dict[str, Any]:
    """The OCI image configuration of a one-layer image."""
    created = format_date(config.created)
    platform = {"architecture": config.arch, "os": "linux"}
    if config.arch in VARIANTS:
        platform["variant"] = VARIANTS[config.arch]
    settings: dict[str, Any] = {"Env": [f"PATH={PATH}"], "Cmd": list(config.command), "Labels": config.labels}
    if config.user:
        settings["User"] = config.user
    if config.entrypoint:
        settings["Entrypoint"] = list(config.entrypoint)
    return {
        **platform,
        "created": created,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": created, "created_by": "hostvm image base", "comment": config.comment}],
    }


def format_date(moment: int) -> str:
    """Seconds since 1970 as OCI writes them (RFC 3339)."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_image(layer: Path, config: ContainerConfig, reference: str, target: Path) -> str:
    """Write the image of one layer (an uncompressed tar) to `target`; returns the image's id, `sha256:…`.

    The same layer and configuration give the same bytes.

    :param reference: NAME:TAG that `docker load` gives it.
    """
    diff_id, size = sha256_file(layer), layer.stat().st_size
    settings = _json(image_config(config, diff_id))
    settings_id = hashlib.sha256(settings).hexdigest()
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, settings_id, len(settings)),
            "layers": [_descriptor(LAYER_TYPE, diff_id, size)],
        }
    )
    manifest_id = hashlib.sha256(manifest).hexdigest()
    name, _, tag = reference.rpartition(":")
    annotations = {
        "io.containerd.image.name": full_reference(name, tag),
        "org.opencontainers.image.ref.name": tag,
    }
    listed = _descriptor(MANIFEST_TYPE, manifest_id, len(manifest)) | {"annotations": annotations}
    blobs = "blobs/sha256"
    saved = [{"Config": f"{blobs}/{settings_id}", "RepoTags": [reference], "Layers": [f"{blobs}/{diff_id}"]}]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [listed]}),
        "manifest.json": _json(saved),
        f"{blobs}/{settings_id}": settings,
        f"{blobs}/{manifest_id}": manifest,
    }
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in files.items():
            tar.addfile(_info(path, len(data), config.created), io.BytesIO(data))
        with layer.open("rb") as file:
            tar.addfile(_info(f"{blobs}/{diff_id}", size, config.created), file)
    return f"sha256:{settings_id}"


def write_layout(image: Path, target: IO[bytes]) -> None:
    """Copy what `write_image` wrote as a plain OCI layout, without docker's manifest, a tar."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for member, content in _layout(image):
            tar.addfile(_info(member.name, member.size, int(member.mtime)), content)


def write_layout_folder(image: Path, target: Path) -> None:
    """The same as a folder, which must not be there."""
    target.mkdir(parents=True)
    for member, content in _layout(image):
        place = target / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)


def _layout(image: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with tarfile.open(image, "r:") as source:
        for member in source:
            content = source.extractfile(member)
            assert content is not None  # `write_image` writes files only
            if member.name != "manifest.json":
                yield member, content


def full_reference(name: str, tag: str) -> str:
    """A reference with the parts that docker leaves out: `debian` is docker.io/library/debian."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}:{tag}"
    is_host = "." in first or ":" in first or first == "localhost"
    return f"{name}:{tag}" if is_host else f"docker.io/{name}:{tag}"


def _info(path: str, size: int, mtime: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = size, mtime, 0o644
    return info


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
