from __future__ import annotations

import json

import pytest

from images.artefact.layout import parse_manifest
from images.errors import ImageError
from images.store import manifest_bytes


def odd_package(version):
    return {"packages": [{"name": "a", "version": version, "arch": "amd64", "sha256": "0"}]}


def test_what_this_version_writes_is_read(make_image):
    manifest = make_image(suites={"hello": "forky"}, engine="docker", rootless=False).manifest
    assert parse_manifest(manifest_bytes(manifest), "x") == manifest


@pytest.mark.parametrize(
    "odd",
    [
        *({"date": date} for date in (True, -1, 10**12, "1", None)),
        *({"packed_by": tools} for tools in (7, "erofs-utils 1.8", [7], [["a"]])),
        *({"suites": suites} for suites in (7, ["forky"], {"hello": 7}, {"hello": "../x"})),
        *(odd_package(version) for version in ("1_0", "a:1", "1-")),
    ],
    ids=str,
)
def test_what_commands_that_read_images_could_not_take(make_image, odd):
    """`image diff`, `image outdated` and package lists."""
    with pytest.raises(ImageError, match="x is damaged or was changed"):
        parse_manifest(manifest_bytes(make_image().manifest | odd), "x")


def test_half_a_character(make_image):
    manifest = make_image().manifest | {"cmdline": "\ud800"}
    data = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    with pytest.raises(ImageError, match="x is damaged or was changed"):
        parse_manifest(data, "x")
