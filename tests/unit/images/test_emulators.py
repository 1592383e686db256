from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from images.emulators import Supply, fetch_emulators, find_emulator, find_sound_emulator
from images.errors import ImageError
from images.foreign import FOREIGN
from images.progress import NullProgress


def program(name):
    return f"emulator of {name}".encode() * 100


@pytest.fixture
def shop(archive, make):
    def publish(version, *, without=()):
        files = [
            make.entry(f"usr/bin/qemu-{one.qemu}", program(name), mode=0o755)
            for name, one in FOREIGN.items()
            if name not in without
        ]
        archive.stanzas.clear()
        archive.add("qemu-user", version, files=[*files, make.entry("usr/bin/qemu-alpha", b"not kept", mode=0o755)])
        archive.publish(until=None)
        replace(archive, suite="trixie-security", stanzas=[]).publish(until=None)
        shutil.rmtree(archive.root / "debian-security", ignore_errors=True)
        shutil.copytree(archive.root / "debian", archive.root / "debian-security")

    archive.emulators = publish
    return archive


@pytest.fixture
def fetch(shop, fetcher, cache):
    def fetch(progress=None):
        fetch_emulators(Supply("amd64", cache, shop.mirror, shop.keys, fetcher), progress or NullProgress())

    return fetch


def test_all_known_ones_are_kept_packed_and_the_package_is_not(shop, fetch, cache):
    shop.emulators("1:10.0-1")
    fetch()
    for name in FOREIGN:
        found = find_emulator(name, "amd64", cache)
        assert gzip.decompress(found.packed.read_bytes()) == program(name)
        assert found.sha256 == hashlib.sha256(program(name)).hexdigest()
    assert {path.name for path in (cache / "emulators").glob("*/*")} == {f"{n}.gz" for n in FOREIGN} | {"manifest.json"}
    assert not [
        path for path in (cache / "archive").rglob("*") if path.is_file() and path.read_bytes()[:7] == b"!<arch>"
    ]


def test_the_newest_is_taken_and_none_of_another_architecture(shop, fetch, cache):
    assert find_emulator("arm64", "amd64", cache) is None
    shop.emulators("1:9.2-1")
    fetch()
    shop.emulators("1:10.0-1")
    fetch()
    assert find_emulator("arm64", "amd64", cache).version == "1:10.0-1"
    assert find_emulator("arm64", "arm64", cache) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, "another shape", "no program", "few"])
def test_stored_ones_that_are_not_whole_are_passed_over_and_made_again(shop, fetch, cache, damage):
    shop.emulators("1:10.0-1")
    fetch()
    (path,) = (cache / "emulators").glob("*/manifest.json")
    facts = json.loads(path.read_bytes())
    if damage == "no program":
        path.with_name("arm64.gz").unlink()
    elif damage == "few":  # as stored by a hostvm that knew fewer
        path.write_text(json.dumps(facts | {"emulators": {"arm": facts["emulators"]["arm"]}}))
    else:
        odd = json.dumps(facts | {"version": "no version"}).encode() if damage == "another shape" else damage
        path.write_bytes(odd)
    assert find_emulator("arm64", "amd64", cache) is None
    fetch()
    assert find_emulator("arm64", "amd64", cache).sha256 == hashlib.sha256(program("arm64")).hexdigest()
    assert gzip.decompress(path.with_name("arm64.gz").read_bytes()) == program("arm64")


@pytest.mark.parametrize(
    "damage", [b"", b"no gzip", gzip.compress(b"another program")], ids=["empty", "no gzip", "another"]
)
def test_a_stored_one_that_is_damaged_is_passed_over_and_made_again(shop, fetch, cache, damage):
    shop.emulators("1:9.2-1")
    fetch()
    old = find_sound_emulator("arm64", "amd64", cache)
    shop.emulators("1:10.0-1")
    fetch()
    new = find_sound_emulator("arm64", "amd64", cache)
    assert (old.version, new.version) == ("1:9.2-1", "1:10.0-1")
    new.packed.write_bytes(damage)
    assert find_emulator("arm64", "amd64", cache) == new, "it is not read for that"
    assert find_sound_emulator("arm64", "amd64", cache) == old
    old.packed.write_bytes(damage)
    assert find_sound_emulator("arm64", "amd64", cache) is None
    fetch()
    assert find_sound_emulator("arm64", "amd64", cache) == new


def test_sound_ones_are_not_fetched_again(shop, fetch, adapter):
    shop.emulators("1:10.0-1")
    fetch()
    fetch()
    assert len([path for path, _ in adapter.requests if "pool/" in path]) == 1


def test_a_mirror_that_is_updated_meanwhile(shop, fetch, cache, adapter, noting):
    def update():
        shop.path("pool/qemu-user_1:9.2-1_amd64.deb").unlink()
        shop.emulators("1:10.0-1")

    shop.emulators("1:9.2-1")
    adapter.before["pool/"] = update
    fetch(noting)
    assert find_emulator("arm64", "amd64", cache).version == "1:10.0-1"
    assert len(noting.notes) == 1


def test_a_package_without_an_emulator_stores_nothing(shop, fetch, cache):
    shop.emulators("1:10.0-1", without=["s390x"])
    with pytest.raises(ImageError, match="no emulator of s390x"):
        fetch()
    assert find_emulator("arm64", "amd64", cache) is None
    assert not list((cache / "emulators").glob("*/"))


@pytest.mark.parametrize(
    ("name", "magic", "mask"),
    [
        # As qemu-user-binfmt of Debian 13 has them; there byte 7 of i386 and x86_64 is open and those of type, too.
        (
            "arm64",
            r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        ),
        (
            "arm",
            r"\x7f\x45\x4c\x46\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        ),
        (
            "s390x",
            r"\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff",
        ),
    ],
)
def test_patterns(name, magic, mask):
    assert FOREIGN[name].pattern == f"0:{magic}:{mask}"
