"""Reading .deb files: an `ar` archive of two compressed tars (deb(5))."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from images.disk import CHUNK
from images.errors import ImageError
from images.zstd import load_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60
GZIP_WINDOW = 31  # zlib: 32 KiB window, gzip framing
_CONTROL_MOST = 64 * 1024**2
_DATA_MOST = 8 * 1024**3
"""Bytes when unpacked; Debian's largest (of texlive and games) have 2 GiB."""
_OUT = 1024**2


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    offset: int
    size: int


def read_control(deb: Path) -> dict[str, bytes]:
    """The control archive's files by name: control, conffiles, postinst, ...

    :raises ImageError: not a .deb.
    """
    with deb.open("rb") as file:
        member = _find(file, deb, "control.tar")
        data = b"".join(_decompress(file, member, deb, _CONTROL_MOST))
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isfile() else None
                if content is not None:
                    found[entry.name.removeprefix("./")] = content.read()
    except (tarfile.TarError, ValueError, OSError) as error:
        raise _broken(deb, f"its control archive cannot be read: {error}") from error
    return found


def unpack_data(deb: Path, target: Path) -> None:
    """Write the decompressed data.tar of `deb` to `target`.

    :raises ImageError: not a .deb.
    """
    with deb.open("rb") as file, target.open("wb") as out:
        member = _find(file, deb, "data.tar")
        for chunk in _decompress(file, member, deb, _DATA_MOST):
            out.write(chunk)


def _members(file: IO[bytes], deb: Path) -> Iterator[_Member]:
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise _broken(deb, "no ar archive")
    while header := file.read(AR_HEADER):
        if len(header) != AR_HEADER or header[58:60] != b"`\n":
            raise _broken(deb, "a damaged ar header")
        # 16 bytes name (GNU ar ends it with a slash), 32 of times and owners, 10 of decimal size
        size = header[48:58].strip()
        if not size.isdigit():
            raise _broken(deb, "a damaged ar header")
        member = _Member(header[:16].decode(errors="replace").rstrip().rstrip("/"), file.tell(), int(size))
        yield member
        file.seek(member.offset + member.size + member.size % 2)


def _find(file: IO[bytes], deb: Path, prefix: str) -> _Member:
    for member in _members(file, deb):
        if member.name.startswith(prefix):
            file.seek(member.offset)
            return member
    raise _broken(deb, f"it holds no {prefix}")


def _decompress(file: IO[bytes], member: _Member, deb: Path, most: int) -> Iterator[bytes]:
    """The member's content in chunks, at most `most` bytes in all; `file` stands at its start."""
    suffix = member.name.rpartition(".")[2]
    feed = _plain if suffix == "tar" else _feeder(suffix, deb)
    left = member.size
    while left:
        data = file.read(min(CHUNK, left))
        if not data:
            raise _broken(deb, "it ends early")
        left -= len(data)
        try:
            for chunk in feed(data):
                most -= len(chunk)
                if most < 0:
                    raise _broken(deb, "it grows beyond all measure when it is unpacked")
                yield chunk
        except (lzma.LZMAError, zlib.error, EOFError) as error:
            raise _broken(deb, str(error)) from error


def _plain(data: bytes) -> Iterator[bytes]:
    yield data


def _feeder(suffix: str, deb: Path) -> Callable[[bytes], Iterator[bytes]]:
    """Unpacks in chunks: a few bytes may stand for gigabytes."""
    if suffix == "gz":
        return partial(_feed_zlib, zlib.decompressobj(GZIP_WINDOW))
    if suffix == "xz":
        return partial(_feed, lzma.LZMADecompressor())
    if suffix == "zst":
        zstd = load_zstd(deb.name)
        return partial(_feed_zstd, zstd.ZstdDecompressor(), zstd.ZstdError)
    raise _broken(deb, f"unknown compression .{suffix}")


def _feed(decoder: Any, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data, _OUT)
    while not decoder.needs_input and not decoder.eof:
        yield decoder.decompress(b"", _OUT)


def _feed_zstd(decoder: Any, fault: type[Exception], data: bytes) -> Iterator[bytes]:
    try:
        yield from _feed(decoder, data)
    except fault as error:
        raise EOFError(str(error)) from error


def _feed_zlib(decoder: Any, data: bytes) -> Iterator[bytes]:
    while data:
        yield decoder.decompress(data, _OUT)
        data = decoder.unconsumed_tail


def _broken(deb: Path, why: str) -> ImageError:
    return ImageError(f"{deb.name} is not a Debian package", why, f"Remove {deb} and try again")
