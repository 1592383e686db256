from __future__ import annotations

import json

import pytest

from images.artefact.incoming import sign_and_describe
from images.artefact.layout import make_artefact, parse_artefact, parse_manifest
from images.artefact.minisign import new_key
from images.errors import ImageError
from images.records import add_record, read_record
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


def test_as_many_signatures_as_an_image_may_have(make_image):
    manifest = make_image().manifest
    texts = [f"{number} {'é' * 4000}" for number in range(32)]
    made = make_artefact(manifest, texts, b"{}")
    assert parse_artefact(made.manifest, "x").signatures == made.signatures


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ([str(number) for number in range(33)], "It has 33 signatures, more than 32"),
        (["x" * 16385], "has 16385 bytes, more than 16384"),
    ],
    ids=["more", "longer"],
)
def test_more_or_longer_ones_are_not_asked_for(make_image, texts, told):
    made = make_artefact(make_image().manifest, texts, b"{}")
    with pytest.raises(ImageError, match="x is damaged or was changed") as error:
        parse_artefact(made.manifest, "x")
    assert told in error.value.details


def test_signatures_that_came_first_are_kept(make_image, cache):
    image, key = make_image(), new_key()
    ours = make_artefact(image.manifest, (), b"{}")
    add_record(cache, image.digest, signatures=tuple(f"{number}" for number in range(31)))
    assert len(sign_and_describe(image, cache, key).signatures) == 32
    add_record(cache, image.digest, signatures=tuple(f"other {number}" for number in range(31)))
    known = read_record(cache, image.digest).signatures
    assert known[:31] == tuple(f"{number}" for number in range(31))
    assert len(known) == 32
    assert sign_and_describe(image, cache, key).config == ours.config
    with pytest.raises(ImageError, match="has 32 signatures, and room for no other"):
        sign_and_describe(image, cache, new_key())
