"""Builds that take what is unchanged from a stored image: the very bytes of a build that has none to take from."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import tarfile
from pathlib import Path

import pytest
from building import FINISH, RECIPE, FinishingBuilder
from erofs_reader import Erofs

from images.artefact.file import export_image, import_image
from images.artefact.trust import KeyRing
from images.deb import unpack_data
from images.donor import Donor
from images.erofs.clusters import compress
from images.origins import ORIGINS
from images.progress import NullProgress
from images.prune import remove_unneeded
from images.store import list_images, remove_image, verify_image

CHUNK = 128 << 10
OTHER = RECIPE.replace("01777", "0755")
"""A recipe that makes another image of the same packages."""

CONTENTS = {
    "usr/lib/words": b"".join(b"%d bottles, " % number for number in range(60_000)),
    "usr/lib/noise": random.Random(1).randbytes(CHUNK + 4095),
    "usr/lib/mixed": random.Random(2).randbytes(CHUNK) + bytes(CHUNK) + b"the end",
    "usr/lib/small": b"a few words",
    "usr/lib/empty": b"",
    "usr/lib/void": b"",
    "usr/share/doc/x": b"dropped " * 9_000,
}


@pytest.fixture
def shop(shop, make):
    """With files of every layout, two that are empty, one with two names, and a module that is packed."""
    kernel = "usr/lib/modules/6.12-amd64/kernel"
    shop.add(
        "files",
        files=[
            *(make.entry(name, data) for name, data in CONTENTS.items()),
            make.entry("usr/lib/twin", type=tarfile.LNKTYPE, linkname="./usr/lib/words"),
            make.link("usr/lib/link", "words"),
            make.entry(f"{kernel}/large.ko.xz", lzma.compress(make.module(f"description={'long ' * 40_000}"))),
        ],
    )
    shop.publish(until=None)
    return shop


@pytest.fixture
def build(build):
    def build_one(builder=None, text=RECIPE, **more):
        text = text.replace("hello]", "hello, files]", 1).replace("keep: [overlay]", "keep: [overlay, large, erofs]")
        return build(builder, text, **more)

    return build_one


@pytest.fixture
def work(monkeypatch):
    """What was done: `work["unpacked"]` has names of packages, `work["packed"]` lengths."""
    done = {"unpacked": [], "packed": []}

    def unpack(deb, target):
        done["unpacked"].append(deb.name)
        return unpack_data(deb, target)

    def pack(chunk, level):
        done["packed"].append(len(chunk))
        return compress(chunk, level)

    monkeypatch.setattr("images.rootfs.unpack_data", unpack)
    monkeypatch.setattr("images.donor.unpack_data", unpack)
    monkeypatch.setattr("images.erofs.clusters.compress", pack)
    return done


def files_of(image):
    return {path.name: path.read_bytes() for path in image.path.iterdir()}


def test_another_image_of_the_same_packages_has_a_cold_builds_bytes_and_none_of_its_work(build, tmp_path, work, noting):
    first = build()
    assert (len(work["unpacked"]), len(work["packed"]) > 8) == (7, True)
    work["unpacked"].clear(), work["packed"].clear()
    warm = build(text=OTHER, progress=noting)
    assert work == {"unpacked": [], "packed": []}
    assert noting.notes == [f"what image {first.digest[:12]} has of these packages is taken from there"]
    cold = build(text=OTHER, cache=tmp_path / "elsewhere")
    assert (warm.digest, files_of(warm)) == (cold.digest, files_of(cold))
    assert warm.digest != first.digest
    found = Erofs(warm.root.read_bytes()).walk()
    assert {name: found[name].content for name in CONTENTS if "doc" not in name} == {
        name: data for name, data in CONTENTS.items() if "doc" not in name
    }
    assert found["usr/lib/empty"].number != found["usr/lib/void"].number
    assert found["usr/lib/twin"].number == found["usr/lib/words"].number


def test_an_image_that_took_all_it_has_is_taken_from_in_turn(build, cache, tmp_path, work):
    first = build()
    build(text=OTHER)
    remove_image(cache, first.digest)
    work["unpacked"].clear(), work["packed"].clear()
    again = build()
    assert work == {"unpacked": [], "packed": []}
    assert files_of(again) == files_of(build(cache=tmp_path / "elsewhere"))


def test_of_a_newer_package_alone_something_is_unpacked(build, shop, make, tmp_path, work):
    build()
    shop.add("hello", "2.0", files=[make.entry("usr/bin/hello", b"hi again" * 999)], Depends="busybox-static")
    shop.publish(until=None)
    work["unpacked"].clear(), work["packed"].clear()
    warm = build()
    (wanted,) = (package["sha256"] for package in warm.manifest["packages"] if package["name"] == "hello")
    assert work == {"unpacked": [wanted], "packed": [999 * 8]}
    assert files_of(warm) == files_of(build(cache=tmp_path / "elsewhere"))


def test_what_the_other_recipe_dropped_is_unpacked_after_all(build, tmp_path, work):
    build()
    work["unpacked"].clear()
    text = RECIPE.replace("drop: [usr/share/doc]\n", "").replace("keep: [overlay]", "keep: [overlay, unused]")
    warm = build(text=text)
    assert len(work["unpacked"]) == 2, "the package of the files that were dropped, and the kernel's"
    assert files_of(warm) == files_of(build(text=text, cache=tmp_path / "elsewhere"))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def reword(path, **changes):
    body = json.dumps(json.loads(path.read_bytes().partition(b"\n")[2]) | changes).encode()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


HARMS = {
    "the root is damaged": lambda path: flip(path / "root.erofs"),
    "what is noted is damaged": lambda path: flip(path / ORIGINS),
    "what is noted is cut short": lambda path: (path / ORIGINS).write_bytes((path / ORIGINS).read_bytes()[:-9]),
    "nothing is noted": lambda path: (path / ORIGINS).unlink(),
    "it is of another image": lambda path: reword(path / ORIGINS, image="0" * 64),
    "it is of other code": lambda path: reword(path / ORIGINS, facts={"revision": 0}),
    "it is of another form": lambda path: reword(path / ORIGINS, format=0),
    "it is no object": lambda path: reword(path / ORIGINS, packages=[1]),
}


@pytest.mark.parametrize("harm", HARMS)
def test_nothing_is_taken_from_what_is_not_sound(build, tmp_path, work, harm):
    HARMS[harm](build().path)
    work["unpacked"].clear()
    warm = build(text=OTHER)
    assert len(work["unpacked"]) == 7
    assert files_of(warm) == files_of(build(text=OTHER, cache=tmp_path / "elsewhere"))


def test_another_compression_is_packed_anew(build, tmp_path, work):
    build()
    work["unpacked"].clear()
    text = f"{RECIPE}compression: lz4\n"
    warm = build(text=text)
    assert len(work["unpacked"]) == 7
    assert files_of(warm) == files_of(build(text=text, cache=tmp_path / "elsewhere"))


def test_nothing_is_taken_from_an_image_that_came_from_elsewhere(build, cache, tmp_path, work):
    ring, other, packed = KeyRing(tmp_path / "keys"), tmp_path / "other", io.BytesIO()
    ring.new("team")
    export_image(build(), packed, cache, NullProgress(), ring.secret("team"))
    import_image(io.BytesIO(packed.getvalue()), "the file", other, ring, NullProgress())
    work["unpacked"].clear()
    build(text=OTHER, cache=other)
    assert len(work["unpacked"]) == 7


def test_what_a_guest_finished_is_neither_given_nor_taken(build, cache, work):
    build(FinishingBuilder(), FINISH)
    assert not list(cache.rglob(ORIGINS))
    work["unpacked"].clear()
    build()
    assert len(work["unpacked"]) == 7
    work["unpacked"].clear()
    build(FinishingBuilder(), FINISH.replace("01777", "0755"))
    assert len(work["unpacked"]) == 7


def interrupt(*_args, **_more):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "moment", ["images.build.write_erofs", "images.build.store_image", "images.origins.json.dumps"]
)
def test_a_build_that_is_killed_spoils_no_later_one(build, cache, tmp_path, monkeypatch, moment):
    first = build()
    monkeypatch.setattr(moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(text=OTHER)
    monkeypatch.undo()
    assert not list((cache / "images").glob(".new-*"))
    verify_image(first)
    again = build(text=RECIPE.replace("01777", "0700"))
    assert files_of(again) == files_of(build(text=RECIPE.replace("01777", "0700"), cache=tmp_path / "elsewhere"))


def test_an_image_that_is_removed_meanwhile_gives_what_it_was_to_give(build, cache, tmp_path, monkeypatch):
    lend = Donor.lend

    def removed(donor, *args):
        shutil.rmtree(donor.image.path, ignore_errors=True)
        return lend(donor, *args)

    build()
    monkeypatch.setattr(Donor, "lend", removed)
    warm = build(text=OTHER)
    monkeypatch.undo()
    assert list_images(cache) == [warm]
    assert files_of(warm) == files_of(build(text=OTHER, cache=tmp_path / "elsewhere"))


def test_a_disk_that_takes_no_notes_makes_the_image_all_the_same(build, cache, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if path.name == ORIGINS:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    image = build()
    verify_image(image)
    assert not list(cache.rglob(ORIGINS))


def test_a_prune_takes_the_notes_along(build, cache):
    os.utime(build().path, (1, 1))
    remove_unneeded(cache, set, NullProgress(), everything=True)
    assert list(cache.rglob(ORIGINS)) == []
