from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from images.errors import HashError, ImageError
from images.store import (
    describe_parts,
    find_digest,
    find_sound,
    inspect_image,
    list_damaged,
    list_images,
    note_made,
    open_image,
    remove_image,
    store_image,
    verify_image,
)


@pytest.fixture
def stored(tmp_path, cache):
    def store(name: str = "docker", date: int = 100, root: bytes = b"root"):
        folder = tmp_path / "new"
        folder.mkdir()
        for part, data in {"vmlinuz": b"kernel", "initramfs": b"init", "root.erofs": root}.items():
            (folder / part).write_bytes(data)
        manifest = {"format": 1, "name": name, "arch": "amd64", "suite": "trixie", "date": date}
        image = store_image(folder, manifest | {"files": describe_parts(folder)}, cache)
        if folder.exists():
            shutil.rmtree(folder)
        return image

    return store


def test_an_image_is_named_by_its_manifest(stored, cache):
    image = stored()
    assert image.path == cache / "images" / "sha256" / image.digest
    assert sorted(path.name for path in image.path.iterdir()) == ["initramfs", "manifest.json", "root.erofs", "vmlinuz"]
    assert (image.kernel.read_bytes(), image.root.read_bytes(), image.size) == (b"kernel", b"root", 14)
    assert open_image(image.path) == image
    verify_image(image)


def test_the_same_image_is_stored_once(stored, cache):
    assert stored() == stored()
    assert len(list_images(cache)) == 1


@pytest.mark.parametrize("damage", [b"", b"toor"])
def test_a_damaged_twin_is_replaced(stored, cache, damage):
    image = stored()
    image.root.write_bytes(damage)
    assert find_sound(cache, image.digest) is None
    assert stored() == find_sound(cache, image.digest) == image
    assert image.root.read_bytes() == b"root"
    assert [path.name for path in (cache / "images").iterdir()] == ["sha256"]


def test_listing_and_finding(stored, cache):
    old, new = stored(date=100), stored(date=200, root=b"newer")
    other = stored("podman", root=b"p")
    assert next(image.digest for image in list_images(cache)) == new.digest
    assert inspect_image(cache, "docker") == new
    assert inspect_image(cache, f"sha256:{old.digest}") == old
    assert inspect_image(cache, other.digest[:12]) == other


def test_no_image_takes_another_s_digest_for_its_name(stored, cache):
    """Who makes an image names it; with --allow-unsigned that may be anybody."""
    good = stored()
    words = [good.digest, f"sha256:{good.digest}", good.digest[:12], f"sha256:{good.digest[:12]}", good.digest[:20]]
    for word in words:
        stored(name=word)
    assert [inspect_image(cache, word) for word in words] == [good] * len(words)
    assert [find_digest(cache, word) for word in words] == [good.digest] * len(words)
    remove_image(cache, good.digest)
    for word in (good.digest, f"sha256:{good.digest}", f"sha256:{good.digest[:12]}"):
        with pytest.raises(ImageError, match="no image"):
            inspect_image(cache, word)


def test_a_name_that_only_looks_like_a_digest_is_one(stored, cache):
    named = stored(name="202611301200")
    assert inspect_image(cache, "202611301200") == named


def test_of_one_release_the_last_one_made_is_meant(stored, cache):
    """A recipe of the user's own that changed, while the archive did not."""
    images = [stored(date=100, root=root) for root in (b"one", b"two", b"three")]
    for seconds, image in enumerate(images):
        os.utime(image.path / "manifest.json", (seconds, seconds))
    assert inspect_image(cache, "docker") == images[-1]
    note_made(images[0])
    assert inspect_image(cache, "docker") == images[0]


def test_the_last_one_made_is_meant_though_the_clock_was_set_back(stored, cache):
    """A day after two of them were made, both at one moment."""
    images = [stored(date=100, root=root) for root in (b"one", b"two")]
    for image in images:
        os.utime(image.path / "manifest.json", (time.time() + 86_400,) * 2)
    images.append(stored(date=100, root=b"three"))
    assert inspect_image(cache, "docker") == images[-1]
    for image in images:
        note_made(image)
        assert inspect_image(cache, "docker") == image


def test_what_is_not_found(stored, cache):
    with pytest.raises(ImageError, match="no image docker"):
        inspect_image(cache, "docker")
    stored()
    with pytest.raises(ImageError, match="no image "):
        inspect_image(cache, "")


def test_an_ambiguous_beginning(stored, cache):
    images = [stored(root=bytes([number])) for number in range(20)]
    beginnings = [image.digest[0] for image in images]
    twice = next(char for char in beginnings if beginnings.count(char) > 1)
    with pytest.raises(ImageError, match="beginning of several"):
        inspect_image(cache, twice)


@pytest.mark.parametrize("damage", ["manifest.json", "root.erofs", "gone"])
def test_damage_is_seen(stored, cache, damage):
    image = stored()
    if damage == "gone":
        image.kernel.unlink()
    else:
        (image.path / damage).write_bytes(b"{}")
    assert list_images(cache) == []
    assert list_damaged(cache) == [image.path]
    with pytest.raises(ImageError, match="is damaged"):
        open_image(image.path)


def test_changed_bytes_of_the_same_size_are_seen_by_verify(stored):
    image = stored()
    image.root.write_bytes(b"toor")
    with pytest.raises(HashError, match="is damaged"):
        verify_image(image)


def test_a_file_that_cannot_be_read_is_damage(stored, cache, monkeypatch):
    image = stored()

    def refuse(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("images.store.sha256_file", refuse)
    with pytest.raises(HashError, match="is damaged") as caught:
        verify_image(image)
    assert "Input/output error" in caught.value.details
    assert find_sound(cache, image.digest) is None


ODD = {"format": 1, "files": {}, "name": "n", "arch": "amd64", "suite": "trixie", "date": 1}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"7", b"\xff", b"{"),
        pytest.param(b"[" * 100_000, id="deep"),
        *(json.dumps(ODD | {key: odd}).encode() for key in ODD for odd in (None, [7])),
        *(json.dumps({name: ODD[name] for name in ODD if name != key}).encode() for key in ODD),
    ],
)
def test_a_manifest_that_somebody_made_up_is_damage(stored, cache, data):
    """Its name is its hash, and still nothing that lists images may stumble over it."""
    image = stored()
    odd = image.path.parent / hashlib.sha256(data).hexdigest()
    odd.mkdir()
    (odd / "manifest.json").write_bytes(data)
    assert list_images(cache) == [image]
    assert list_damaged(cache) == [odd]
    with pytest.raises(ImageError, match="is damaged"):
        open_image(odd)


def test_one_that_is_removed_while_images_are_listed(stored, cache, monkeypatch):
    image, read = stored(), Path.read_bytes

    def read_and_lose(path):
        data = read(path)
        if path == image.path / "manifest.json":
            path.unlink()
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_lose)
    assert list_images(cache) == [image]
    assert list_images(cache) == []


def test_one_that_is_removed_while_left_overs_are_cleared(stored, cache, monkeypatch):
    """By a build that begins at that moment."""
    image, replace = stored(), Path.replace

    def replace_and_lose(path, target):
        moved = replace(path, target)
        shutil.rmtree(target)
        return moved

    monkeypatch.setattr(Path, "replace", replace_and_lose)
    remove_image(cache, image.digest)
    assert list_images(cache) == []


def test_removing(stored, cache):
    image = stored()
    image.root.unlink()
    remove_image(cache, image.digest)
    assert not image.path.exists()
    assert [path.name for path in (cache / "images").iterdir()] == ["sha256"]
    with pytest.raises(ImageError, match="no image"):
        remove_image(cache, image.digest)
    with pytest.raises(ImageError):
        remove_image(cache, "..")
