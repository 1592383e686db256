from __future__ import annotations

import hashlib
import random
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from registries import PASSWORD, USER, Authority, Registry, make_access

from images.artefact.trust import KeyRing
from images.registry.auth import Credentials
from images.store import describe_parts, store_image


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """Open to everybody, plain HTTP."""
    with Registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def ring(tmp_path):
    ring = KeyRing(tmp_path / "keys")
    ring.new("team")
    return ring


@pytest.fixture
def access():
    return make_access(None)


@pytest.fixture
def logged_in():
    return make_access(Credentials(USER, PASSWORD))


@pytest.fixture
def make_image(tmp_path):
    """A stored image of some megabytes that no compression shrinks."""

    def make(cache, *, root: int = 20 << 20, seed: object = None):
        folder = tmp_path / "image-being-made"
        folder.mkdir()
        data = random.Random(str(seed or tmp_path)).randbytes(root)
        for part, content in {"vmlinuz": data[: 3 << 20], "initramfs": b"i" * 5000, "root.erofs": data}.items():
            (folder / part).write_bytes(content)
        manifest = {
            "format": 1, "name": "docker", "arch": "amd64", "suite": "trixie", "date": 1_795_194_416,
            "kernel_release": "6.12.1-amd64", "console": "ttyS0", "cmdline": "", "cmdline_tcg": "",
            "recipe": "0" * 64, "packed_by": [],
            "packages": [{"name": "a", "version": "1", "arch": "amd64", "sha256": hashlib.sha256(b"a").hexdigest()}],
        }  # fmt: skip
        image = store_image(folder, manifest | {"files": describe_parts(folder)}, cache)
        shutil.rmtree(folder, ignore_errors=True)
        return image

    return make


@pytest.fixture
def no_docker_login(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return tmp_path / "docker"
