"""Container images as one tar that `docker load`, podman and OCI tools read: an OCI layout with docker's
manifest.json beside it (what `docker save` writes since version 25).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from images.disk import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container of the image starts with.

    :param arch: amd64 or arm64.
    :param created: seconds since 1970; the archive's date, never the clock's.
    """

    arch: str
    created: int
    command: tuple[str, ...]
    comment: str
    labels: dict[str, str] = field(default_factory=dict)


def image_config(config: ContainerConfig, diff_id: str) -> dict[str, Any]:
    """The OCI image configuration of a one-layer image."""
    created = datetime.fromtimestamp(config.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    platform = {"architecture": config.arch, "os": "linux"}
    if config.arch == "arm64":
        platform["variant"] = "v8"
    return {
        **platform,
        "created": created,
        "config": {"Env": [f"PATH={PATH}"], "Cmd": list(config.command), "Labels": config.labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": created, "created_by": "hostvm image base", "comment": config.comment}],
    }


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
