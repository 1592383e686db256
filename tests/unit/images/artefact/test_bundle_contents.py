from __future__ import annotations

import hashlib
import json

import pytest
from bundling import BASE, EMULATORS, KEY, PROGRAM, TAR, packed, refused, rewritten, take, written

from images.artefact.bundle import describe_bundle
from images.errors import ImageError
from images.store import MANIFEST, PARTS, list_images, manifest_bytes


def test_a_guest_image_that_its_manifest_does_not_know(described, tmp_path, ring):
    bundle, sources = described
    (digest,) = bundle.units("images")
    other = tmp_path / "vmlinuz"
    other.write_bytes(b"another kernel")
    name = f"images/{digest}/vmlinuz"
    sources = {**sources, name: other}
    members = tuple(
        m if m.name != name else type(m)(name, 14, hashlib.sha256(b"another kernel").hexdigest())
        for m in bundle.members
    )
    data = written((type(bundle)(members, {}, {}), sources), ring.secret("team"))
    assert "another vmlinuz than its manifest" in refused(data, tmp_path / "other", ring)


SHAPES = [None, b"", b"{}", b"[]", b"7", b"\xff", b"[" * 100_000]
ODD_BASES = [
    *SHAPES,
    *(
        json.dumps(BASE | odd).encode()
        for odd in ({"request": 7}, {"date": "x"}, {"revision": None}, {"sha256": 7}, {"sha256": "../x"})
    ),
]
ODD_EMULATORS = [
    *SHAPES,
    *(
        json.dumps(EMULATORS | odd).encode()
        for odd in (
            {"version": "no version"},
            {"version": 7},
            {"revision": "1"},
            {"emulators": ["arm64"]},
            {"emulators": {"arm64": 7}},
            {"emulators": {"../arm64": KEY}},
            {"emulators": {**EMULATORS["emulators"], "riscv64": KEY}},
            {"emulators": {"arm64": KEY}},
        )
    ),
]


@pytest.mark.parametrize("manifest", ODD_BASES)
def test_a_base_image_with_an_odd_manifest(described, tmp_path, ring, manifest):
    data = rewritten(described, ring, {f"base/{KEY}/manifest.json": manifest}, tmp_path)
    assert "base image abababababab lacks" in refused(data, tmp_path / "other", ring).lower()


def test_a_base_image_without_its_image(described, tmp_path, ring):
    data = rewritten(described, ring, {f"base/{KEY}/image.tar": None}, tmp_path)
    assert "lacks its image.tar" in refused(data, tmp_path / "other", ring)


def test_a_base_image_that_is_not_what_its_manifest_says(described, tmp_path, ring):
    data = rewritten(described, ring, {f"base/{KEY}/image.tar": TAR[:-1] + b"t"}, tmp_path)
    assert "Base image abababababab is not what its manifest says" in refused(data, tmp_path / "other", ring)


@pytest.mark.parametrize("manifest", ODD_EMULATORS)
def test_emulators_with_an_odd_manifest(described, tmp_path, ring, manifest):
    data = rewritten(described, ring, {f"emulators/amd64-{KEY}/manifest.json": manifest}, tmp_path)
    assert "emulator" in refused(data, tmp_path / "other", ring).lower()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"gz", packed(PROGRAM)[:-20], packed(b"another"), packed(bytes(2 << 20))],
    ids=["none", "empty", "no gzip", "cut short", "another", "too large"],
)
def test_emulators_that_are_not_what_their_manifest_says(described, tmp_path, ring, content, monkeypatch):
    monkeypatch.setattr("images.emulators.MOST", 1 << 20)
    data = rewritten(described, ring, {f"emulators/amd64-{KEY}/arm64.gz": content}, tmp_path)
    assert "emulator" in refused(data, tmp_path / "other", ring).lower()


def _no_date(manifest):
    del manifest["date"]


def _a_path_for_a_name(manifest):
    manifest["name"] = "../x"


def _one_file_more(manifest):
    manifest["files"]["../x"] = {"sha256": KEY, "size": 1}


@pytest.mark.parametrize("change", [_no_date, _a_path_for_a_name, _one_file_more])
def test_a_guest_image_with_an_odd_manifest(described, tmp_path, ring, change):
    """Its hash is its name and its parts are there, and still nothing that lists images may stumble over it."""
    bundle, sources = described
    (digest,) = bundle.units("images")
    content = {name: sources[f"images/{digest}/{name}"].read_bytes() for name in (MANIFEST, *PARTS)}
    manifest = json.loads(content[MANIFEST])
    change(manifest)
    content[MANIFEST] = manifest_bytes(manifest)
    other = hashlib.sha256(content[MANIFEST]).hexdigest()
    changes = {f"images/{digest}/{name}": None for name in content}
    changes |= {f"images/{other}/{name}": data for name, data in content.items()}
    told = refused(rewritten(described, ring, changes, tmp_path), tmp_path / "other", ring)
    assert "its manifest" in told.lower()


def test_firmware_that_is_not_what_it_says_is_refused(firmware, stored, cache, ring, tmp_path, monkeypatch):
    (firmware / "pvh.bin").write_bytes(b"another")
    monkeypatch.setattr(
        "images.artefact.bundle.stored_firmware", lambda _: [firmware / "pvh.bin", firmware / "pvh.json"]
    )
    data = written(describe_bundle(stored[0], [], [], cache, {}), ring.secret("team"))
    with pytest.raises(ImageError) as caught:
        take(data, tmp_path / "there", ring)
    assert "Its pvh.bin is not what its pvh.json says." in caught.value.details
    assert not (tmp_path / "there" / "firmware").exists()
    assert list_images(tmp_path / "there") == []
