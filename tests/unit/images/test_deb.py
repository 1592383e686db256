from __future__ import annotations

import gzip
import io
import lzma
import tarfile

import pytest

from images.deb import read_control, unpack_data
from images.errors import ImageError


@pytest.fixture
def write(tmp_path):
    def write(data: bytes):
        path = tmp_path / "x.deb"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), ("", bytes)])
def test_control_and_data(make, write, tmp_path, suffix, pack):
    control = make.tar([make.entry("control", b"Package: x\n"), make.entry("postinst", b"#!/bin/sh\n")])
    data = make.tar([make.entry("usr/", b""), make.entry("usr/x", b"content" * 1000)])
    deb = write(
        make.ar({"debian-binary": b"2.0\n", f"control.tar{suffix}": pack(control), f"data.tar{suffix}": pack(data)})
    )
    assert read_control(deb) == {"control": b"Package: x\n", "postinst": b"#!/bin/sh\n"}
    unpack_data(deb, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["./usr", "./usr/x"]


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
@pytest.mark.parametrize("out", [1, 7, 258, 4096])
def test_a_few_bytes_that_stand_for_many_come_in_pieces(make, write, tmp_path, monkeypatch, suffix, pack, out):
    """A decoder that has read all of its input may still hold back what did not fit into a piece."""
    monkeypatch.setattr("images.deb._OUT", out)
    for size in (out - 1, out, out + 1, 257, 258, 259, 20_000):
        data = b"a" * size
        unpack_data(write(make.ar({"debian-binary": b"2.0\n", f"data.tar{suffix}": pack(data)})), tmp_path / "data.tar")
        assert (tmp_path / "data.tar").read_bytes() == data


def test_what_grows_beyond_all_measure_is_refused(make, write, tmp_path, monkeypatch):
    monkeypatch.setattr("images.deb._DATA_MOST", 1 << 20)
    deb = write(make.ar({"debian-binary": b"2.0\n", "data.tar.xz": lzma.compress(bytes((1 << 20) + 1))}))
    with pytest.raises(ImageError, match=r"x\.deb") as caught:
        unpack_data(deb, tmp_path / "data.tar")
    assert "beyond all measure" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK", "no ar archive"),
        (b"!<arch>\nshort", "a damaged ar header"),
        (b"!<arch>\n", "it holds no data.tar"),
    ],
)
def test_what_is_no_package(write, tmp_path, data, why):
    with pytest.raises(ImageError) as error:
        unpack_data(write(data), tmp_path / "out")
    assert error.value.details == why


def test_damaged_data(make, write, tmp_path):
    packed = bytearray(lzma.compress(b"x" * 1000))
    packed[30] ^= 255
    with pytest.raises(ImageError, match="is not a Debian package"):
        unpack_data(write(make.ar({"data.tar.xz": bytes(packed)})), tmp_path / "out")


def test_a_package_that_ends_early(make, write, tmp_path):
    whole = make.ar({"data.tar.xz": lzma.compress(b"x" * 1000)})
    with pytest.raises(ImageError) as error:
        unpack_data(write(whole[:-30]), tmp_path / "out")
    assert error.value.details == "it ends early"


def test_an_unknown_compression(make, write, tmp_path):
    with pytest.raises(ImageError) as error:
        unpack_data(write(make.ar({"data.tar.rar": b""})), tmp_path / "out")
    assert "unknown compression" in error.value.details
