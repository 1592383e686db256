"""Bundles as tests of several files want them: made, taken apart, and changed."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import pytest
from backports import zstd

from images.artefact.bundle import Member, load_bundle, write_bundle
from images.errors import ImageError
from images.progress import NullProgress

NONE = NullProgress()
KEY = "ab" * 32
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


def written(described, key=None) -> bytes:
    out = io.BytesIO()
    write_bundle(*described, out, NONE, key)
    return out.getvalue()


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
