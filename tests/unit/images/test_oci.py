from __future__ import annotations

import hashlib
import json
import tarfile

import pytest

from images.oci import ContainerConfig, full_reference, image_config, write_image

CONFIG = ContainerConfig("arm64", 1_700_000_000, ("bash",), "Debian trixie, 78 packages")


def test_config_golden():
    assert image_config(CONFIG, "ab") == {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["bash"],
            "Labels": {},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:ab"]},
        "history": [
            {
                "created": "2023-11-14T22:13:20Z",
                "created_by": "hostvm image base",
                "comment": "Debian trixie, 78 packages",
            }
        ],
    }


@pytest.fixture
def image(tmp_path):
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"LAYER" * 1000)
    identity = write_image(layer, CONFIG, "team/debian:trixie", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        return identity, {member.name: tar.extractfile(member).read() for member in tar}


def test_every_blob_is_named_by_its_content(image):
    _, files = image
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/sha256/")}
    assert len(blobs) == 3
    for name, data in blobs.items():
        assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]


def test_docker_and_oci_agree(image):
    identity, files = image
    saved = json.loads(files["manifest.json"])[0]
    index = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(files["blobs/sha256/" + index["digest"].removeprefix("sha256:")])
    assert saved["RepoTags"] == ["team/debian:trixie"]
    assert index["annotations"] == {
        "io.containerd.image.name": "docker.io/team/debian:trixie",
        "org.opencontainers.image.ref.name": "trixie",
    }
    assert saved["Config"] == "blobs/sha256/" + manifest["config"]["digest"].removeprefix("sha256:")
    assert manifest["config"]["digest"] == identity
    assert saved["Layers"] == ["blobs/sha256/" + manifest["layers"][0]["digest"].removeprefix("sha256:")]
    assert files[saved["Layers"][0]] == b"LAYER" * 1000


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("debian", "docker.io/library/debian:t"),
        ("team/debian", "docker.io/team/debian:t"),
        ("localhost:5000/debian", "localhost:5000/debian:t"),
        ("registry.test/debian", "registry.test/debian:t"),
    ],
)
def test_full_references(name, full):
    assert full_reference(name, "t") == full
