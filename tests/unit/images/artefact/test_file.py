from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
import threading

import pytest
from backports import zstd
from bundling import members, pack  # a helper beside this file

from images.artefact.file import export_image, import_image, whole_file
from images.artefact.layout import parse_artefact
from images.errors import DiskFullError, HashError, ImageError, SignatureError
from images.progress import NullProgress
from images.records import read_record
from images.sbom import make_sbom
from images.store import inspect_image, list_images, verify_image

NONE = NullProgress()


@pytest.fixture
def exported(make_image, cache, ring):
    """A signed image as bytes, and what it was."""
    image, out = make_image(), io.BytesIO()
    export_image(image, out, cache, NONE, ring.secret("team"))
    return image, out.getvalue()


def take(data: bytes, cache, ring, **options):
    return import_image(io.BytesIO(data), "the file", cache, ring, NONE, **options)


def test_what_goes_out_comes_in(exported, tmp_path, ring):
    image, data = exported
    other = tmp_path / "other"
    got = take(data, other, ring)
    assert (got.image.digest, got.fresh, got.verdict.signer.split()[0]) == (image.digest, True, "team")
    assert got.verdict.comment == f"hostvm guest image docker trixie amd64 sha256:{image.digest}"
    verify_image(got.image)
    assert sorted(path.name for path in (other / "images").iterdir()) == [".lock", "records", "sha256"]
    again = take(data, other, ring)
    assert (again.image, again.fresh) == (got.image, False)


def test_a_file_of_a_stored_image_is_read_to_its_end(exported, cache, ring):
    """What `import` says that it verified, it did; what is stored stays as it is."""
    image, data = exported
    before = image.root.stat()
    for bad in (data[: int(len(data) * 0.9)], data + b"more"):
        with pytest.raises(ImageError, match="is damaged or was changed"):
            take(bad, cache, ring)
    for damage in ("a part has other bytes", "a part is shorter", "a part is missing"):
        entries = members(data)
        DAMAGE[damage](entries)
        with pytest.raises(ImageError, match="is damaged or was changed"):
            take(pack(entries), cache, ring)
    assert not take(data, cache, ring).fresh
    after = image.root.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    verify_image(image)


def test_an_import_heals_a_stored_image(exported, cache, ring):
    image, data = exported
    image.root.write_bytes(b"toor" * 1000)  # of the right size
    assert take(data, cache, ring).fresh
    verify_image(image)
    assert sorted(path.name for path in (cache / "images").iterdir()) == [".lock", "records", "sha256"]


def test_a_signature_stays_with_the_image(exported, tmp_path, ring):
    """Whoever imported it can hand it on, signed as it came."""
    other, out = tmp_path / "other", io.BytesIO()
    image = take(exported[1], other, ring).image
    export_image(image, out, other, NONE, None)
    assert out.getvalue() == exported[1]
    assert read_record(other, image.digest).signatures
    ring.remove("team")
    with pytest.raises(SignatureError, match="not trusted"):
        take(out.getvalue(), tmp_path / "third", ring)


def test_the_file_is_an_oci_layout(exported):
    found = {info.name: content for info, content in members(exported[1])}
    assert list(found)[:2] == ["oci-layout", "index.json"]
    (listed,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/sha256/{listed['digest'][7:]}"])
    for blob in (manifest["config"], *manifest["layers"]):
        content = found[f"blobs/sha256/{blob['digest'][7:]}"]
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (blob["digest"][7:], blob["size"])
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]]
    assert titles == ["manifest.json.minisig", "sbom.spdx.json", "vmlinuz", "initramfs", "root.erofs"]
    assert found[f"blobs/sha256/{manifest['layers'][1]['digest'][7:]}"] == make_sbom(
        "spdx", exported[0].manifest, exported[0].digest
    )


@pytest.mark.parametrize("sha256", ["0" * 64, "../x", "0" * 63 + "g"])
def test_what_recipes_added_is_named_by_a_sum(make_image, cache, ring, tmp_path, sha256):
    """It becomes a part of identifiers in package lists."""
    image, out = make_image(downloads=[{"name": "tool", "sha256": sha256, "url": "", "paths": []}]), io.BytesIO()
    export_image(image, out, cache, NONE, ring.secret("team"))
    if sha256 == "0" * 64:
        assert take(out.getvalue(), tmp_path / "other", ring).image.digest == image.digest
    else:
        refuses(out.getvalue(), tmp_path, ring)


def test_unsigned_needs_a_word(make_image, cache, ring, tmp_path):
    out = io.BytesIO()
    export_image(make_image(), out, cache, NONE, None)
    with pytest.raises(SignatureError, match="not signed"):
        take(out.getvalue(), tmp_path / "other", ring)
    assert take(out.getvalue(), tmp_path / "other", ring, allow_unsigned=True).verdict.signer is None


def test_a_damaged_image_is_not_exported(make_image, cache):
    image = make_image()
    image.root.write_bytes(b"toor" * 1000)
    with pytest.raises(HashError, match="is damaged"):
        export_image(image, io.BytesIO(), cache, NONE, None)


def test_a_part_that_cannot_be_read_is_no_fault_of_the_place_that_is_written_to(make_image, cache, tmp_path):
    image = make_image()
    image.root.unlink()
    image.root.mkdir()
    with pytest.raises(HashError, match="is damaged") as caught, whole_file(tmp_path / "out") as file:
        export_image(image, file, cache, NONE, None)
    assert str(image.root) in caught.value.details
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file(exported, tmp_path, ring, share):
    data = exported[1]
    refuses(data[: int(len(data) * share)], tmp_path, ring)


def test_no_changed_byte_changes_what_is_stored(exported, tmp_path, ring):
    """Refused, or without any effect: some bytes, such as a tar's padding, no part depends on."""
    image, data = exported
    for at in range(0, len(data), 101):
        changed = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        try:
            got = take(changed, tmp_path / str(at), ring, allow_unsigned=True)
        except ImageError:
            assert list_images(tmp_path / str(at)) == []
        else:
            verify_image(got.image)
            assert got.image.digest == image.digest


def _swap(entries):
    entries[3], entries[4] = entries[4], entries[3]


def _name(text):
    def rename(entries):
        entries[-1][0].name = text

    return rename


def _kind(kind, target=""):
    def change(entries):
        entries[-1][0].type, entries[-1][0].linkname = kind, target

    return change


def _content(number, data):
    def change(entries):
        entries[number] = (entries[number][0], data)

    return change


DAMAGE = {
    "two members in another order": _swap,
    "a path out of the folder": _name("../../evil"),
    "an absolute path": _name("/etc/passwd"),
    "a part is a link": _kind(tarfile.SYMTYPE, "/etc/passwd"),
    "a part is a hard link": _kind(tarfile.LNKTYPE, "/etc/passwd"),
    "a part is a device": _kind(tarfile.CHRTYPE),
    "a part is a folder": _kind(tarfile.DIRTYPE),
    "a long name, which tar would read into memory": _name("x" * 5000),
    "a part is shorter": _content(-1, b"short"),
    "a part is longer": _content(-1, b"root" * 1001),
    "a part has other bytes": _content(-1, b"toor" * 1000),
    "no index": _content(1, b"{"),
    "an index of nothing": _content(1, b'{"manifests": []}'),
    "a deep index": _content(1, b"[" * 100_000),
    "an index that names nothing": _content(1, b'{"manifests": [{"digest": 7, "size": "x"}]}'),
    "an index of half a character": _content(1, b'{"manifests": [{"digest": "sha256:\\ud800", "size": 1}]}'),
    "an index of a path": _content(1, b'{"manifests": [{"digest": "sha256:../x", "size": 1}]}'),
    "an index of something endless": _content(1, b'{"manifests": [{"digest": "sha256:0", "size": Infinity}]}'),
    "an index of five megabytes": _content(1, b" " * (5 << 20)),
    "another OCI manifest": _content(2, b"{}"),
    "another manifest": _content(3, b"{}"),
    "a part is missing": lambda entries: entries.pop(),
    "one member more": lambda entries: entries.append((tarfile.TarInfo("more"), b"")),
    "no member at all": lambda entries: entries.clear(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_changed_file(exported, tmp_path, ring, damage):
    entries = members(exported[1])
    DAMAGE[damage](entries)
    refuses(pack(entries), tmp_path, ring)


def test_the_same_entries_packed_by_tar_itself_are_taken(exported, tmp_path, ring):
    """So that the refusals above are not for how they were packed."""
    assert take(pack(members(exported[1])), tmp_path / "other", ring).fresh


def test_more_than_the_image(exported, tmp_path, ring):
    entries = members(exported[1])
    refuses(pack(entries, b"more"), tmp_path, ring)
    refuses(pack(entries, bytes(64 << 20)), tmp_path, ring)  # 6 KiB of zstd
    refuses(exported[1] + b"more", tmp_path, ring)


@pytest.mark.parametrize("data", [b"", b"hello", zstd.compress(b"hello" * 1000), b"\x28\xb5\x2f\xfd"])
def test_what_is_no_exported_image(tmp_path, ring, data):
    refuses(data, tmp_path, ring)


def test_a_window_that_would_take_the_memory(exported, tmp_path, ring):
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    tar = zstd.decompress(exported[1])
    refuses(wide.compress(tar) + wide.flush(), tmp_path, ring)


def rewritten(exported, change):
    """The same file with another OCI manifest, whose digest agrees."""
    entries = members(exported[1])
    manifest = json.loads(entries[2][1])
    change(manifest)
    data = json.dumps(manifest).encode()
    digest, info = hashlib.sha256(data).hexdigest(), entries[2][0]
    info.name = f"blobs/sha256/{digest}"
    index = {"manifests": [{"digest": f"sha256:{digest}", "size": len(data)}]}
    entries[1:3] = [(entries[1][0], json.dumps(index).encode()), (info, data)]
    return pack(entries)


LIES = {
    "a size": lambda m: m["layers"][-1].update(size=10),
    "a huge size": lambda m: m["layers"][-1].update(size=1 << 60),
    "a negative size": lambda m: m["layers"][-1].update(size=-1),
    "a digest": lambda m: m["layers"][-1].update(digest="sha256:" + "0" * 64),
    "a digest that is a path": lambda m: m["layers"][-1].update(digest="sha256:../../x"),
    "a name that is a path": lambda m: m["layers"][-1]["annotations"].update(
        {"org.opencontainers.image.title": "../../x"}
    ),
    "a part twice": lambda m: m["layers"].append(m["layers"][-1]),
    "a part too few": lambda m: m["layers"].pop(),
    "a large small thing": lambda m: m["layers"][0].update(size=1 << 30),
    "a thousand layers": lambda m: m["layers"].extend([m["layers"][0]] * 1000),
    "no layers": lambda m: m.pop("layers"),
    "no config": lambda m: m.pop("config"),
    "a config of another image": lambda m: m["config"].update(digest="sha256:" + "1" * 64),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_artefact_that_lies(exported, tmp_path, ring, lie):
    refuses(rewritten(exported, LIES[lie]), tmp_path, ring)


def test_a_container_image_is_told_apart():
    data = json.dumps({"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": []}).encode()
    with pytest.raises(ImageError, match="x is not a guest image") as error:
        parse_artefact(data, "x")
    assert "hostvm docker pull" in error.value.resolution


def test_an_image_of_another_version(make_image, cache, tmp_path, ring, monkeypatch):
    out = io.BytesIO()
    export_image(make_image(), out, cache, NONE, ring.secret("team"))
    monkeypatch.setattr("images.artefact.layout.FORMAT", 2)
    with pytest.raises(ImageError, match="of another version of hostvm"):
        take(out.getvalue(), tmp_path / "other", ring)


def test_too_little_space(exported, tmp_path, ring, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("images.disk.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError):
        take(exported[1], tmp_path / "other", ring)
    assert list_images(tmp_path / "other") == []


def refuses(data: bytes, tmp_path, ring) -> None:
    """One clear error, and nothing of it is in the store."""
    other = tmp_path / "refusing"
    with pytest.raises(ImageError) as error:
        take(data, other, ring, allow_unsigned=True)
    assert error.value.resolution
    assert list_images(other) == []
    left = {path.relative_to(other / "images").as_posix() for path in (other / "images").rglob("*")}
    assert left <= {".lock", "sha256"}
    assert not (tmp_path / "evil").exists()


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as file:
        file.write(b"%d" % (1 // 0))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert target.read_bytes() == b"old"
    with whole_file(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"
    with pytest.raises(ImageError, match="cannot write"), whole_file(tmp_path / "no" / "where"):
        pass


def test_a_full_disk_is_told_as_that_of_the_file(tmp_path):
    with pytest.raises(DiskFullError, match="no space left in") as error, whole_file(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.resolution == "Free some there. Choose another place: `-o FILE`"
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("there", "new"):
        link = tmp_path / name
        link.symlink_to(f"disk/{name}")
        with whole_file(link) as file:
            file.write(b"new")
        assert link.is_symlink()
        assert (tmp_path / "disk" / name).read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without such pipes")
def test_what_is_no_file_is_written_to(tmp_path):
    """As root the device would be gone for the whole computer."""
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with whole_file(pipe) as file:
        file.write(b"new")
    reader.join(10)
    assert got == [b"new"]
    assert pipe.is_fifo()
    (tmp_path / "null").symlink_to(os.devnull)
    with whole_file(tmp_path / "null") as file:
        file.write(b"new")
    assert (tmp_path / "null").is_char_device()


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ImageError, match="cannot write"), whole_file(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_references_move_to_the_image_that_has_them_last(make_image, cache):
    from images.records import add_record, find_references

    old, new = make_image(), make_image(root=b"newer")
    add_record(cache, old.digest, references=("r.test/a:1", "r.test/a@sha256:x"))
    assert inspect_image(cache, "r.test/a:1") == old
    add_record(cache, new.digest, references=("r.test/a:1",))
    assert inspect_image(cache, "r.test/a:1") == new
    assert find_references(cache)[old.digest] == ("r.test/a@sha256:x",)
