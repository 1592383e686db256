"""The builder guest's parts, kept between builds: of a recipe with `finish`, which needs one."""

from __future__ import annotations

import pytest
from building import FINISH, FinishingBuilder

from images.kernel import write_kernel
from images.rootfs import package_tree


def kit_of(cache):
    (kit,) = (path for path in (cache / "builder").iterdir() if path.is_dir())
    return kit


@pytest.mark.parametrize("name", ["vmlinuz", "initramfs"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_builder_guest_is_made_again(build, cache, name, damage, noting):
    builder = FinishingBuilder()
    image, part = build(builder, FINISH), kit_of(cache) / name
    content, seen = part.read_bytes(), builder.initramfs
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(bytes([content[0] ^ 1]) + content[1:] if damage == "flip" else b"")
    image.root.unlink()
    assert build(builder, FINISH, noting) == image
    assert "the stored builder guest is damaged and is made again" in noting.notes
    assert (part.read_bytes(), builder.initramfs) == (content, seen)
    assert sorted(path.name for path in kit_of(cache).iterdir()) == ["initramfs", "manifest.json", "vmlinuz"]
    assert sorted(path.name for path in (cache / "builder").iterdir()) == [".lock", kit_of(cache).name]


@pytest.mark.parametrize(
    "manifest", [None, b"", b"{}", b"[]", b"\xff", b'{"vmlinuz": 7}', pytest.param(b"[" * 100_000, id="deep")]
)
def test_one_with_an_odd_manifest_is_made_again(build, cache, manifest):
    image = build(FinishingBuilder(), FINISH)
    path = kit_of(cache) / "manifest.json"
    before = path.read_bytes()
    path.unlink()
    if manifest is not None:  # None: as stored by a hostvm that wrote none
        path.write_bytes(manifest)
    image.root.unlink()
    assert build(FinishingBuilder(), FINISH) == image
    assert path.read_bytes() == before


def test_a_sound_builder_guest_is_kept(build, cache, noting):
    image, kernel = build(FinishingBuilder(), FINISH), kit_of(cache) / "vmlinuz"
    before = kernel.stat().st_mtime_ns
    image.root.unlink()
    assert build(FinishingBuilder(), FINISH, noting) == image
    assert kernel.stat().st_mtime_ns == before
    assert noting.notes == []


def test_its_initramfs_holds_busybox_once(build, cache):
    """Every byte of it is unpacked before each job."""
    build(FinishingBuilder(), FINISH)
    assert (kit_of(cache) / "initramfs").read_bytes().count(b"bin/busybox\0") == 1


def test_it_is_made_before_the_images_tree_is_in_memory(build, monkeypatch):
    """Unpacking a kernel takes 57 MB each time."""
    done = []

    def noted(name, real):
        return lambda *args: done.append(name) or real(*args)

    monkeypatch.setattr("images.kit.write_kernel", noted("kit", write_kernel))
    monkeypatch.setattr("images.build.package_tree", noted("tree", package_tree))
    build(FinishingBuilder(), FINISH)
    assert done == ["kit", "tree"]
