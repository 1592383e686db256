"""A whole build from a tiny archive; only the emulated guest of `finish` is replaced, by one that adds a file."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import stat
import tarfile
import tracemalloc
import weakref
from dataclasses import fields
from types import SimpleNamespace

import pytest
from building import FINISH, RECIPE, FinishingBuilder
from erofs_reader import Erofs

from images.archive import Archive, open_archive
from images.archive.packages import PackageIndex
from images.build import find_image, recipe_digest
from images.compare import outdated
from images.disk import sha256_file
from images.erofs import packed_by
from images.errors import (
    DiskFullError,
    HashError,
    HostvmError,
    ImageError,
    MirrorError,
    RecipeError,
    SignatureError,
)
from images.own_recipe import load_own_recipe
from images.progress import NullProgress
from images.prune import remove_unneeded
from images.recipe import load_recipe
from images.rootfs import unpack_packages
from images.store import list_images, verify_image


class FailingBuilder:
    def run(self, job, progress):
        raise HostvmError("the builder guest failed", "its last lines", "Try again")


def root_of(image):
    return Erofs(image.root.read_bytes()).walk()


def test_an_image_is_built_and_found_again_without_the_network(build, cache, adapter):
    image = build()
    verify_image(image)
    assert image.kernel.read_bytes() == b"KERNEL"
    assert list(image.manifest["files"]) == ["initramfs", "root.erofs", "vmlinuz"]
    assert [package["name"] for package in image.manifest["packages"]] == [
        "base-files", "base-passwd", "busybox-static", "hello", "linux-image-6.12-amd64", "linux-image-amd64",
    ]  # fmt: skip
    assert (image.manifest["kernel_release"], image.manifest["console"]) == ("6.12-amd64", "ttyS0")
    asked = len(adapter.requests)
    assert find_image(load_recipe(RECIPE, "x"), "amd64", None, cache) == image
    assert find_image(load_recipe(RECIPE, "x"), "amd64", "forky", cache) is None
    assert find_image(load_recipe(RECIPE, "x"), "arm64", None, cache) is None
    assert len(adapter.requests) == asked


def test_the_root_is_the_tree_that_the_recipe_makes(build):
    image = build()
    found = root_of(image)
    assert found["etc/passwd"].content.splitlines()[1] == b"anna:x:1000:0::/home/anna:/bin/sh"
    modules = "usr/lib/modules/6.12-amd64"
    assert [path for path in found if path.endswith(".ko")] == [f"{modules}/kernel/fs/overlay.ko"]
    assert found[f"{modules}/modules.dep"].content == b"kernel/fs/overlay.ko:\n"
    assert "usr/share/doc" not in found
    assert (found["etc/mtab"].content, found["tmp"].mode) == (b"../proc/self/mounts", stat.S_IFDIR | 0o1777)
    assert Erofs(image.root.read_bytes()).time == image.manifest["date"] == 1_700_000_000
    assert image.manifest["packed_by"] == [packed_by()]


def test_a_root_without_modules(build):
    """A kernel may have all that it needs built in, or get the rest in its initramfs."""
    found = root_of(build(text=RECIPE.replace("keep: [overlay], ", "")))
    assert [path for path in found if path.endswith(".ko")] == []
    assert found["usr/lib/modules/6.12-amd64/modules.dep"].content == b""


def test_the_index_is_held_no_longer_than_it_is_asked(build, monkeypatch):
    class Seen(PackageIndex):  # with a __dict__, and so with weak references
        pass

    seen, held = [], []

    def opened(*args, **kwargs):
        archive = open_archive(*args, **kwargs)
        index = Seen(**{field.name: getattr(archive.index, field.name) for field in fields(PackageIndex)})
        seen.append(weakref.ref(index))
        return Archive(index, archive.fetcher)

    def unpacked(*args):
        held.append(seen[-1]() is not None)
        return unpack_packages(*args)

    monkeypatch.setattr("images.build.open_archive", opened)
    monkeypatch.setattr("images.build.unpack_packages", unpacked)
    build()
    build(FinishingBuilder(), FINISH)  # the guest's parts are asked for before
    assert held == [False, False]


def test_finish_commands_run_in_a_guest(build):
    builder = FinishingBuilder()
    image = build(builder, FINISH)
    assert builder.jobs == 1
    assert b"/usr/bin/tool -a 6.12-amd64\n" in builder.initramfs
    with tarfile.open(fileobj=io.BytesIO(builder.tar)) as tar:
        assert {member.mtime for member in tar} == {1_700_000_000}
    found, plain = root_of(image), root_of(build())
    assert found.pop("etc/finished").content == b"yes\n"
    assert image.manifest["date"] == 1_700_000_000
    assert {path: item.content for path, item in found.items() if not stat.S_ISDIR(item.mode)} == {
        path: item.content for path, item in plain.items() if not stat.S_ISDIR(item.mode)
    }
    assert {path: (item.mode, item.uid, item.gid) for path, item in found.items()} == {
        path: (item.mode, item.uid, item.gid) for path, item in plain.items()
    }


def test_what_finish_leaves_and_no_root_can_hold_is_told_with_a_way_out(build):
    class Making(FinishingBuilder):
        def run(self, job, progress):
            with (
                job.disks[1].path.open("r+b") as disk,
                tarfile.open(fileobj=disk, mode="w", format=tarfile.GNU_FORMAT) as out,
            ):
                made = tarfile.TarInfo("./etc/queue")
                made.type = tarfile.FIFOTYPE
                out.addfile(made)
            return job.success

    with pytest.raises(ImageError) as caught:
        build(Making(), FINISH)
    assert caught.value.brief == "/etc/queue of the finished tree is neither file, folder nor link"
    assert "a last command" in caught.value.resolution


def test_the_root_has_what_others_made(build, shop, cache):
    shop.write("tool", b"\x7fELF...")
    sha = hashlib.sha256(b"\x7fELF...").hexdigest()
    text = f"{RECIPE}downloads: [{{url: {shop.mirror}/tool, sha256: {sha}, to: usr/bin/tool}}]\n"
    image = build(text=text)
    there = root_of(image)["usr/bin/tool"]
    assert (there.content, there.mode) == (b"\x7fELF...", stat.S_IFREG | 0o755)
    assert image.manifest["downloads"] == [
        {"name": "tool", "sha256": sha, "url": f"{shop.mirror}/tool", "paths": ["usr/bin/tool"]}
    ]
    with pytest.raises(HashError, match="tool is not what the recipe promises"):
        build(text=text.replace(sha, "f" * 64))
    assert list_images(cache) == [image]


@pytest.fixture
def build_own(build, tmp_path):
    """`build_own(text)`: of a recipe of one's own in the test's folder."""

    def build_own(text):
        (tmp_path / "own.yaml").write_text(text)
        return build(recipe=load_own_recipe(tmp_path / "own.yaml"))

    return build_own


@pytest.mark.parametrize("key", ["downloads", "overlay"])
def test_what_a_recipe_brings_is_not_held_in_memory(build_own, tmp_path, key):
    size = 96 << 20
    (tmp_path / "own").mkdir()
    with (tmp_path / "own" / "tool").open("wb") as file:
        file.truncate(size)
    how = {
        "downloads": f"[{{file: own/tool, sha256: {sha256_file(tmp_path / 'own' / 'tool')}, to: usr/bin/tool}}]",
        "overlay": "own",
    }
    tracemalloc.start()
    try:
        image = build_own(f"{RECIPE}{key}: {how[key]}\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image.root.stat().st_size > size / 300, "it is in it, packed"
    assert peak < size / 2


def test_an_overlay_is_copied_over_the_tree(build_own, tmp_path):
    (tmp_path / "own" / "usr" / "bin").mkdir(parents=True)
    contents = {"usr/bin/hello": (b"#!/bin/sh\n", 0o755), "usr/bin/other": (b"\x7fELF", 0o644), "empty": (b"", 0o644)}
    for path, (content, _) in {**contents, "none": (b"", 0)}.items():
        (tmp_path / "own" / path).write_bytes(content)
    found = root_of(build_own(f"{RECIPE}overlay: own\n"))
    assert {path: (found[path].content, stat.S_IMODE(found[path].mode)) for path in contents} == contents
    assert found["empty"].number != found["none"].number


def test_the_initramfs_has_its_modules_in_order(build):
    image = build()
    data = image.initramfs.read_bytes()
    assert b"libcrc32c\nerofs\n" in data
    assert b"modules/erofs.ko\0" in data
    assert b"BB" in data


def test_the_same_packages_give_the_same_image(build, tmp_path, shop):
    first = build()
    shop.publish(until=None, Version="13.9")  # another InRelease, the same packages
    assert build(cache=tmp_path / "elsewhere").digest == first.digest


def test_what_is_up_to_date_is_not_built_again(build, cache, noting):
    first = build()
    assert build(progress=noting) == first
    assert noting.notes == [f"image {first.digest[:12]} is up to date: no package is newer"]


@pytest.mark.parametrize(("damage", "notes"), [("gone", []), ("zeros", ["image {} is damaged and is built again"])])
def test_what_is_damaged_is_built_again(build, cache, noting, damage, notes):
    first = build()
    size = first.root.stat().st_size
    first.root.unlink()
    if damage == "zeros":
        first.root.write_bytes(bytes(size))
    assert build(progress=noting) == first
    assert noting.notes == [note.format(first.digest[:12]) for note in notes]
    assert len(list_images(cache)) == 1
    verify_image(first)


def test_what_is_up_to_date_is_left_by_a_prune_that_waited_for_the_build(build, cache):
    image = build()
    os.utime(image.path, (1, 1))
    assert build() == image
    remove_unneeded(cache, set, NullProgress(), everything=True)
    assert list_images(cache) == [image]


def test_a_disk_too_small_for_the_result(build, cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=10))
    with pytest.raises(DiskFullError) as error:
        build()
    assert error.value.brief == f"not enough space in {cache / 'images'}"
    assert left_behind(cache) == []
    monkeypatch.undo()
    assert build().digest


def test_what_a_killed_build_left_is_removed(build, cache):
    (cache / "images" / ".new-abc" / "image").mkdir(parents=True)
    build()
    assert left_behind(cache) == ["sha256"]


def test_another_recipe_or_package_gives_another_image(build, cache, shop, make):
    first = build()
    shop.add("hello", "2.0", files=[make.entry("usr/bin/hello", b"hi again")], Depends="busybox-static")
    shop.publish(until=None)
    second = build()
    third = build(text=RECIPE.replace("01777", "0755"))
    assert len({first.digest, second.digest, third.digest}) == 3
    digests = {recipe_digest(load_recipe(text, "x")) for text in (RECIPE, RECIPE.replace("01777", "0755"))}
    assert len(digests) == 2


def test_a_kernel_beside_its_modules(build, cache, shop, make):
    """As Debian ships it from forky on, in a package of its own; the builder guest of `finish` has it too."""
    folder = "usr/lib/modules/7.2-amd64"
    modules = [
        make.entry(f"{folder}/kernel/{name}.ko.xz", lzma.compress(make.module("depends=")))
        for name in ("erofs", "overlay", "virtio_pci", "virtio_blk", "binfmt_misc")
    ]
    shop.add("linux-image-amd64", "2.0", Depends="linux-image-7.2-amd64")
    shop.add("linux-image-7.2-amd64", Depends="linux-binary-7.2-amd64, linux-modules-7.2-amd64")
    shop.add("linux-binary-7.2-amd64", files=[make.entry(f"{folder}/vmlinuz", b"NEWER KERNEL")])
    shop.add("linux-modules-7.2-amd64", files=modules)
    shop.publish(until=None)
    image = build(FinishingBuilder(), FINISH)
    assert image.manifest["kernel_release"] == "7.2-amd64"
    assert image.kernel.read_bytes() == b"NEWER KERNEL"
    (kit,) = (path for path in (cache / "builder").iterdir() if path.is_dir())
    assert (kit / "vmlinuz").read_bytes() == b"NEWER KERNEL"


def test_a_package_of_another_suite(build, shop, make, fetcher, cache):
    forky = type(shop)(shop.root, shop.key, suite="forky")
    forky.add("hello", "3.0", files=[make.entry("usr/bin/hello", b"hi from later")], Depends="busybox-static")
    forky.add("busybox-static", "9")
    forky.publish(until=None, Suite="testing")
    text = RECIPE + "suites: {hello: forky}\n"
    image = build(text=text)
    found = {package["name"]: package["version"] for package in image.manifest["packages"]}
    assert (found["hello"], found["busybox-static"]) == ("3.0", "1.0")
    assert image.manifest["suites"] == {"hello": "forky"}
    forky.add("hello", "3.1")
    forky.publish(until=None, Suite="testing")
    newer = outdated(image.manifest, shop.mirror, cache, NullProgress(), pockets=(), keys=shop.keys, fetcher=fetcher)
    assert [(item.name, item.newest) for item in newer] == [("hello", "3.1")]


def test_another_suite_is_checked_like_the_first(build, shop, make, stranger_key):
    forky = type(shop)(shop.root, shop.key, suite="forky")
    forky.add("hello", "3.0")
    forky.publish(until=None, Suite="testing", key=stranger_key)
    with pytest.raises(SignatureError, match=r"dists/forky/InRelease is not good"):
        build(text=RECIPE + "suites: {hello: forky}\n")


def test_a_suite_for_a_package_that_is_not_taken(build, shop):
    forky = type(shop)(shop.root, shop.key, suite="forky")
    forky.publish(until=None, Suite="testing")
    with pytest.raises(RecipeError) as caught:
        build(text=RECIPE + "suites: {helo: forky}\n")
    assert caught.value.details == "suites: helo"


def left_behind(cache) -> list[str]:
    return sorted(path.name for path in (cache / "images").iterdir() if path.name != ".lock")


def test_a_failed_guest_leaves_nothing_and_a_retry_works(build, cache, adapter):
    with pytest.raises(HostvmError, match="builder guest failed"):
        build(FailingBuilder(), FINISH)
    assert left_behind(cache) == []
    asked = len([path for path, _ in adapter.requests if "pool" in path])
    assert build().digest
    assert len([path for path, _ in adapter.requests if "pool" in path]) == asked  # packages stayed


def test_a_guest_that_writes_nothing(build, cache):
    class Idle:
        def run(self, job, progress):
            return job.success

    with pytest.raises(ImageError, match="gave no tree back"):
        build(Idle(), FINISH)
    assert left_behind(cache) == []


def test_ctrl_c_leaves_nothing(build, cache):
    class Interrupted:
        def run(self, job, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(Interrupted(), FINISH)
    assert left_behind(cache) == []


def test_an_edited_package_leaves_nothing_and_a_retry_works(build, cache, shop):
    path = shop.path("pool/hello_1.0_amd64.deb")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(HashError, match=r"hello_1\.0_amd64\.deb"):
        build()
    assert left_behind(cache) == []
    path.write_bytes(good)
    assert build().digest


MOMENTS = {
    # which requests the mirror's update comes before, what it has of the package then
    "a package is gone": ("pool/", "2.0"),
    "a package is another": ("pool/", "1.0"),
    "the index is another": ("Packages.xz", "2.0"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_mirror_that_is_updated_meanwhile(build, shop, make, adapter, noting, cache, moment):
    word, version = MOMENTS[moment]

    def update():
        shop.path("pool/hello_1.0_amd64.deb").unlink()
        shop.stanzas[:] = [stanza for stanza in shop.stanzas if not stanza.startswith("Package: hello\n")]
        shop.add("hello", version, files=[make.entry("usr/bin/hello", b"hi again")], Depends="busybox-static")
        shop.publish(until=None, Acquire_By_Hash="no")

    shop.publish(until=None, Acquire_By_Hash="no")
    adapter.before[word] = update
    image = build(progress=noting)
    assert root_of(image)["usr/bin/hello"].content == b"hi again"
    assert {package["name"]: package["version"] for package in image.manifest["packages"]}["hello"] == version
    (note,) = noting.notes
    assert note.endswith("perhaps the mirror is being updated: its index is read anew, once")
    assert releases_read(adapter) == 2
    assert left_behind(cache) == ["sha256"]


@pytest.mark.parametrize(("damage", "kind"), [("another", HashError), ("gone", MirrorError)])
def test_an_index_is_read_anew_once(build, shop, adapter, noting, damage, kind):
    path = shop.path("pool/hello_1.0_amd64.deb")
    path.write_bytes(b"another") if damage == "another" else path.unlink()
    with pytest.raises(kind) as error:
        build(progress=noting)
    assert "hello_1.0_amd64.deb" in error.value.brief
    assert (len(noting.notes), releases_read(adapter)) == (1, 2)


def test_what_a_recipe_adds_is_no_matter_of_the_index(build, shop, adapter, noting):
    shop.write("tool", b"another")
    for url in (f"{shop.mirror}/tool", f"{shop.mirror}/none"):
        text = f'downloads: [{{url: "{url}", sha256: {"f" * 64}, to: usr/bin/tool}}]'
        adapter.requests.clear()
        with pytest.raises(ImageError):
            build(text=RECIPE + text, progress=noting)
        assert (noting.notes, releases_read(adapter)) == ([], 1)


def releases_read(adapter) -> int:
    return len([path for path, _ in adapter.requests if path.endswith("InRelease")])


def test_the_manifest_can_be_read_by_people(build):
    text = (build().path / "manifest.json").read_text()
    assert json.loads(text)["format"] == 1
    assert text.count("\n") > 20
