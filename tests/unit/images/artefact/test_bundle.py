from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile

import pytest
from backports import zstd

from images.artefact.bundle import INDEX, SIGNATURES, Member, describe_bundle, load_bundle, parse_bundle, write_bundle
from images.artefact.trust import KeyRing
from images.errors import DiskFullError, HashError, ImageError, SignatureError
from images.progress import NullProgress
from images.store import MANIFEST, PARTS, list_images, manifest_bytes, verify_image

NONE = NullProgress()
KEY = "ab" * 32


@pytest.fixture
def ring(tmp_path):
    ring = KeyRing(tmp_path / "keys")
    ring.new("team")
    return ring


TAR = b"tar" * 9000
BASE = {
    "revision": 4,
    "request": {"kind": "busybox"},
    "date": 1_700_000_000,
    "sha256": hashlib.sha256(TAR).hexdigest(),
}
PROGRAM = b"an emulator" * 1000
EMULATORS = {"revision": 1, "version": "1:10.0-1", "emulators": {"arm64": hashlib.sha256(PROGRAM).hexdigest()}}


def packed(program: bytes) -> bytes:
    return gzip.compress(program, mtime=0)


@pytest.fixture
def stored(make_image, cache, tmp_path):
    """A guest image, a base image, emulators and two wheels."""
    for folder, files in {
        f"base/sha256/{KEY}": {"image.tar": TAR, "manifest.json": json.dumps(BASE).encode()},
        f"emulators/amd64-{KEY}": {
            "arm64.gz": packed(PROGRAM),
            "manifest.json": json.dumps(EMULATORS).encode(),
        },
    }.items():
        (cache / folder).mkdir(parents=True)
        for name, data in files.items():
            (cache / folder / name).write_bytes(data)
    wheels = tmp_path / "w"
    wheels.mkdir()
    for name in ("hostvm-0.1.0-py3-none-any.whl", "a" * 120 + "-1.0-cp313-cp313-manylinux_2_28.whl"):
        (wheels / name).write_bytes(name.encode())
    folders = [cache / "base/sha256" / KEY, cache / "emulators" / f"amd64-{KEY}"]
    return [make_image()], folders, wheels


@pytest.fixture
def described(stored, cache):
    images, folders, wheels = stored
    return describe_bundle(images, folders, wheels.iterdir(), cache, {"base": ["busybox"]})


def written(described, key=None) -> bytes:
    out = io.BytesIO()
    write_bundle(*described, out, NONE, key)
    return out.getvalue()


@pytest.fixture
def data(described, ring):
    return written(described, ring.secret("team"))


def take(data: bytes, cache, ring, **options):
    return load_bundle(io.BytesIO(data), "the file", cache, ring, NONE, **options)


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(data))) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def pack(entries, tail: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return zstd.compress(out.getvalue() + tail)


def is_empty(cache) -> bool:
    return [path for path in cache.rglob("*") if path.is_file()] in ([], [cache / "images/.lock"])


def refused(data, cache, ring, **options) -> str:
    with pytest.raises(ImageError) as caught:
        take(data, cache, ring, **options)
    assert is_empty(cache)
    return f"{caught.value.brief} {caught.value.details}"


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


def rewritten(described, ring, changes: dict[str, bytes | None], tmp_path) -> bytes:
    """The bundle, well signed, with members that have other content, or are left out."""
    bundle, sources = described
    kept = {name: path for name, path in sources.items() if changes.get(name, b"") is not None}
    for number, (name, data) in enumerate(changes.items()):
        if data is not None:
            kept[name] = tmp_path / f"changed-{number}"
            kept[name].write_bytes(data)
    members = [(name, path.read_bytes()) for name, path in kept.items()]
    listed = tuple(Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in members)
    return written((type(bundle)(listed, {}, {}), kept), ring.secret("team"))


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


def test_sizes_that_do_not_fit_are_refused_before_a_byte_is_written(tmp_path, ring, monkeypatch):
    facts = {"format": 1, "members": [["wheels/a.whl", 1 << 60, KEY]], "signatures": {}, "notes": {}}
    data = pack([(tarfile.TarInfo(INDEX), json.dumps(facts).encode()), (tarfile.TarInfo(SIGNATURES), b"")])
    with pytest.raises(DiskFullError):
        take(data, tmp_path / "other", ring, allow_unsigned=True)
    assert is_empty(tmp_path / "other")


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


@pytest.fixture
def firmware(cache):
    """What the QEMU of this computer lacked."""
    folder = cache / "firmware"
    folder.mkdir(parents=True)
    (folder / "pvh.bin").write_bytes(b"rom")
    (folder / "pvh.json").write_text(json.dumps({"sha256": hashlib.sha256(b"rom").hexdigest()}))
    return folder


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
