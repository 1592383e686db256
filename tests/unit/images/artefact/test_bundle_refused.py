from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from backports import zstd
from bundling import KEY, NONE, is_empty, members, pack, refused, take, written

from images.artefact.bundle import INDEX, SIGNATURES, load_bundle, parse_bundle
from images.artefact.file import export_image, import_image
from images.errors import DiskFullError, ImageError, SignatureError


def test_unsigned_only_when_allowed(described, tmp_path, ring):
    data = written(described)
    with pytest.raises(SignatureError, match="not signed"):
        take(data, tmp_path / "other", ring)
    assert is_empty(tmp_path / "other")
    assert take(data, tmp_path / "other", ring, allow_unsigned=True).verdict.signer is None


def test_an_index_that_was_changed_after_signing(data, tmp_path, ring):
    entries = members(data)
    facts = json.loads(entries[0][1])
    facts["notes"]["base"] = ["another"]
    entries[0] = (entries[0][0], json.dumps(facts).encode())
    with pytest.raises(SignatureError, match="false"):
        take(pack(entries), tmp_path / "other", ring)
    assert is_empty(tmp_path / "other")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_cut_short(data, share, tmp_path, ring):
    assert "damaged" in refused(data[: int(len(data) * share)], tmp_path / "other", ring)


def test_any_changed_member_is_found_and_nothing_is_stored(data, tmp_path, ring):
    for number in range(2, len(members(data))):
        entries = members(data)
        info, content = entries[number]
        entries[number] = (info, bytes([content[0] ^ 1]) + content[1:])
        assert "not what its manifest promises" in refused(pack(entries), tmp_path / "other", ring)


def test_members_left_out_added_or_in_another_order(data, tmp_path, ring):
    entries = members(data)
    extra = tarfile.TarInfo("wheels/more.whl")
    for changed in (
        entries[:-1],
        entries[:3] + entries[4:],
        [*entries, (extra, b"x")],
        [*entries[:2], *entries[:1:-1]],
    ):
        refused(pack(changed), tmp_path / "other", ring)
    refused(pack(entries, b"tail" * 300), tmp_path / "other", ring)


def test_links_in_place_of_files(data, tmp_path, ring):
    entries = members(data)
    link = tarfile.TarInfo(entries[2][0].name)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    refused(pack([*entries[:2], (link, b""), *entries[3:]]), tmp_path / "other", ring)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "wheels/../../x.whl",
        "wheels/.whl/x.whl",
        "wheels/x.sh",
        f"images/{KEY}/extra",
        f"images/{KEY[:-1]}/vmlinuz",
        f"base/{KEY}/../x",
        f"emulators/../{KEY}/x.gz",
        "accel.json",
        "wheels/a\n.whl",
    ],
)
def test_names_that_lead_elsewhere(name, tmp_path, ring):
    digest = hashlib.sha256(b"x").hexdigest()
    facts = {"format": 1, "members": [[name, 1, digest]], "signatures": {}, "notes": {}}
    info = [tarfile.TarInfo(one) for one in (INDEX, SIGNATURES, name)]
    data = pack([(info[0], json.dumps(facts).encode()), (info[1], b""), (info[2], b"x")])
    assert "which is in no bundle" in refused(data, tmp_path / "other", ring, allow_unsigned=True)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 1, "members": [["wheels/a.whl", -1, "%s"]], "signatures": {}, "notes": {}}' % KEY.encode(),
        b'{"format": 1, "members": [["wheels/a.whl", 1, "x"]], "signatures": {}, "notes": {}}',
        b'{"format": 1, "members": 7, "signatures": {}, "notes": {}}',
        b'{"format": 1, "members": [["wheels/a.whl", Infinity, "%s"]], "signatures": {}, "notes": {}}' % KEY.encode(),
        b'{"format": 1, "members": [], "signatures": {"%s": ["\\ud800"]}, "notes": {}}' % KEY.encode(),
    ],
)
def test_broken_indexes(index):
    with pytest.raises(ImageError):
        parse_bundle(index, "the file")


@pytest.mark.parametrize("texts", [["x"] * 33, ["x" * 4097]], ids=["too many", "too long"])
def test_signatures_beyond_measure(texts):
    facts = {"format": 1, "members": [], "signatures": {KEY: texts}, "notes": {}}
    with pytest.raises(ImageError) as error:
        parse_bundle(json.dumps(facts).encode(), "the file")
    assert "more than 32 signatures, or one far too long" in error.value.details


def test_sizes_that_do_not_fit_are_refused_before_a_byte_is_written(tmp_path, ring, monkeypatch):
    facts = {"format": 1, "members": [["wheels/a.whl", 1 << 60, KEY]], "signatures": {}, "notes": {}}
    data = pack([(tarfile.TarInfo(INDEX), json.dumps(facts).encode()), (tarfile.TarInfo(SIGNATURES), b"")])
    with pytest.raises(DiskFullError):
        take(data, tmp_path / "other", ring, allow_unsigned=True)
    assert is_empty(tmp_path / "other")


def test_another_kind_of_file_is_told_as_that(data, stored, cache, tmp_path, ring):
    exported, other = io.BytesIO(), tmp_path / "other"
    export_image(stored[0][0], exported, cache, NONE, None)
    with pytest.raises(ImageError, match=r"^the file is an exported image") as error:
        take(exported.getvalue(), other, ring)
    assert "`hostvm image import FILE`" in error.value.resolution
    with pytest.raises(ImageError, match=r"^it is a bundle") as error:
        import_image(io.BytesIO(data), "it", other, ring, NONE)
    assert "`hostvm bundle load FILE`" in error.value.resolution
    for plain in (zstd.decompress(data), b"\x1f\x8b\x08\x00" + bytes(40), b"no"):
        for read in (load_bundle, import_image):
            with pytest.raises(ImageError, match="it is neither an exported guest image nor a bundle") as error:
                read(io.BytesIO(plain), "it", other, ring, NONE)
            assert "`hostvm docker load -i FILE`" in error.value.resolution
    assert is_empty(other)


def test_a_frame_that_is_passed_over_may_come_first(data, tmp_path, ring):
    """As `pzstd` writes it."""
    assert take(b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + data, tmp_path / "other", ring).verdict.signer
