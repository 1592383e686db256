"""Container images made on the spot, as `docker load` takes them: a layer that all have, and one of each's own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def archive(names: Sequence[str], *, common: int, own: int) -> bytes:
    """One tar with an image for each name.

    :param common: bytes in the layer that they share; random, so that they stay as many.
    :param own: bytes in each one's own layer.
    """
    shared = _layer("common", common)
    files, listed = {"common.tar": shared}, []
    for number, name in enumerate(names):
        layer = _layer(f"own-{number}", own)
        digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (shared, layer)]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
        files |= {f"{number}.tar": layer, f"{number}.json": json.dumps(config).encode()}
        listed.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["common.tar", f"{number}.tar"]})
    return _tar(files | {"manifest.json": json.dumps(listed).encode()})


def _layer(name: str, size: int) -> bytes:
    return _tar({name: os.urandom(size)})


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
