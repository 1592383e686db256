from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from images.artefact.bundle import describe_bundle
from images.artefact.trust import KeyRing

sys.path.insert(0, str(Path(__file__).parent))  # a helper lies beside the tests
from bundling import BASE, EMULATORS, KEY, PROGRAM, TAR, packed, written


@pytest.fixture
def ring(tmp_path):
    ring = KeyRing(tmp_path / "keys")
    ring.new("team")
    return ring


@pytest.fixture
def stored(make_image, cache, tmp_path):
    """A guest image, a base image, emulators and two wheels."""
    for folder, files in {
        f"base/sha256/{KEY}": {"image.tar": TAR, "manifest.json": json.dumps(BASE).encode()},
        f"emulators/amd64-{KEY}": {
            "arm64.gz": packed(PROGRAM),
            "manifest.json": json.dumps(EMULATORS).encode(),
        },
    }.items():
        (cache / folder).mkdir(parents=True)
        for name, data in files.items():
            (cache / folder / name).write_bytes(data)
    wheels = tmp_path / "w"
    wheels.mkdir()
    for name in ("hostvm-0.1.0-py3-none-any.whl", "a" * 120 + "-1.0-cp313-cp313-manylinux_2_28.whl"):
        (wheels / name).write_bytes(name.encode())
    folders = [cache / "base/sha256" / KEY, cache / "emulators" / f"amd64-{KEY}"]
    return [make_image()], folders, wheels


@pytest.fixture
def described(stored, cache):
    images, folders, wheels = stored
    return describe_bundle(images, folders, wheels.iterdir(), cache, {"base": ["busybox"]})


@pytest.fixture
def data(described, ring):
    return written(described, ring.secret("team"))


@pytest.fixture
def firmware(cache):
    """What the QEMU of this computer lacked."""
    folder = cache / "firmware"
    folder.mkdir(parents=True)
    (folder / "pvh.bin").write_bytes(b"rom")
    (folder / "pvh.json").write_text(json.dumps({"sha256": hashlib.sha256(b"rom").hexdigest()}))
    return folder
