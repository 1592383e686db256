from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from bundling import BASE, KEY, PROGRAM, TAR, members, packed, take, written

from images.artefact.bundle import INDEX, SIGNATURES, describe_bundle
from images.errors import HashError, ImageError
from images.store import list_images, verify_image


def test_what_goes_out_comes_in(described, data, cache, tmp_path, ring):
    other = tmp_path / "other"
    loaded = take(data, other, ring)
    assert loaded.bundle == described[0]
    assert loaded.verdict.signer.split()[0] == "team"
    (image,) = list_images(other)
    verify_image(image)
    for name in (f"base/sha256/{KEY}/image.tar", f"emulators/amd64-{KEY}/arm64.gz"):
        assert (other / name).read_bytes() == (cache / name).read_bytes()
    assert len(list((other / "wheels").iterdir())) == 2
    assert not list(other.glob("*/.new-*"))


def test_the_same_things_are_the_same_bytes_and_wheels_come_first_by_their_names(described, ring):
    first = written(described, ring.secret("team"))
    assert first == written(described, ring.secret("team"))
    names = [info.name for info, _ in members(first)]
    assert names[:2] == [INDEX, SIGNATURES]
    assert names[2].startswith("wheels/")


def test_loading_twice_changes_nothing(data, tmp_path, ring):
    other = tmp_path / "other"
    take(data, other, ring)
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*.tar")}
    take(data, other, ring)
    assert {path: path.stat().st_mtime_ns for path in other.rglob("*.tar")} == before


def test_what_is_damaged_in_the_cache_is_replaced_and_what_is_whole_stays(data, cache, tmp_path, ring):
    other = tmp_path / "other"
    take(data, other, ring)
    base, emulators = other / "base/sha256" / KEY, other / "emulators" / f"amd64-{KEY}"
    whole = (base / "image.tar").stat().st_ino
    (emulators / "arm64.gz").unlink()
    take(data, other, ring)
    assert (emulators / "arm64.gz").read_bytes() == (cache / f"emulators/amd64-{KEY}/arm64.gz").read_bytes()
    assert (base / "image.tar").stat().st_ino == whole
    (base / "manifest.json").write_bytes(b"{")
    take(data, other, ring)
    assert json.loads((base / "manifest.json").read_bytes()) == BASE
    (base / "image.tar").write_bytes(TAR[:-1] + b"t")
    (emulators / "arm64.gz").write_bytes(packed(b"another"))
    take(data, other, ring)
    assert (base / "image.tar").read_bytes() == TAR
    assert (emulators / "arm64.gz").read_bytes() == packed(PROGRAM)


def test_what_is_damaged_goes_into_no_bundle(stored, cache):
    images, folders, _ = stored
    (folders[1] / "arm64.gz").write_bytes(packed(b"another"))
    with pytest.raises(HashError, match="the emulator of arm64 is damaged"):
        describe_bundle([], folders, [], cache, {})
    for manifest in (json.dumps(BASE | {"sha256": KEY}).encode(), b""):
        (folders[0] / "manifest.json").write_bytes(manifest)
        with pytest.raises(HashError, match="base image abababababab is damaged"):
            describe_bundle([], folders[:1], [], cache, {})
    images[0].root.write_bytes(b"toor" * 1000)
    with pytest.raises(HashError, match="is damaged"):
        describe_bundle(images, [], [], cache, {})


def test_a_file_that_changes_while_it_is_written(described, cache):
    (cache / "base/sha256" / KEY / "image.tar").write_bytes(b"tar" * 8999 + b"rat")
    with pytest.raises(HashError, match="was changed"):
        written(described)
    (cache / "base/sha256" / KEY / "image.tar").unlink()
    with pytest.raises(HashError, match="was changed") as caught:
        written(described)
    assert "image.tar" in caught.value.details


def test_names_that_no_bundle_has(cache, tmp_path):
    (tmp_path / "bad name.whl").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot be in a bundle"):
        describe_bundle([], [], [tmp_path / "bad name.whl"], cache, {})
    shutil.rmtree(cache, ignore_errors=True)


def test_firmware_that_qemu_lacks_goes_along(firmware, stored, cache, ring, tmp_path):
    images, folders, wheels = stored
    data = written(describe_bundle(images, folders, wheels.iterdir(), cache, {}), ring.secret("team"))
    there = tmp_path / "there"
    take(data, there, ring)
    files = {path.name: path.read_bytes() for path in firmware.iterdir()}
    assert {path.name: path.read_bytes() for path in (there / "firmware").iterdir() if path.suffix} == files
    (there / "firmware" / "pvh.bin").write_bytes(b"cut")
    take(data, there, ring)
    assert (there / "firmware" / "pvh.bin").read_bytes() == b"rom", "what is damaged is replaced"
    (firmware / "pvh.bin").write_bytes(b"cut")
    assert describe_bundle(images, [], [], cache, {})[0].units("firmware") == [], "what is damaged stays here"


def test_a_disk_that_takes_less_than_it_is_given_gets_the_rest(data, tmp_path, ring, monkeypatch):
    """As one that is nearly full does: only the next call fails, and nothing may be missing until then."""
    monkeypatch.setattr("images.artefact.stream.CHUNK", 1000)
    usual = Path.open

    class Short(io.FileIO):
        def write(self, some):
            return super().write(memoryview(some)[:7])

    def short(path, mode="r", buffering=-1, **words):
        return Short(path, mode) if buffering == 0 else usual(path, mode, buffering, **words)

    monkeypatch.setattr(Path, "open", short)
    take(data, tmp_path / "other", ring)
    wheels = {path.name: path.read_bytes() for path in (tmp_path / "other" / "wheels").iterdir()}
    assert wheels == {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()}
    verify_image(list_images(tmp_path / "other")[0])
