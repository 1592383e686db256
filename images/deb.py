"""Reading .deb files: an `ar` archive of two compressed tars (deb(5))."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from images.disk import CHUNK
from images.errors import ImageError
from images.zstd import load_zstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60
GZIP_WINDOW = 31  # zlib: 32 KiB window, gzip framing


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
        data = b"".join(_decompress(file, member, deb))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            if content is not None:
                found[entry.name.removeprefix("./")] = content.read()
    return found


def unpack_data(deb: Path, target: Path) -> None:
    """Write the decompressed data.tar of `deb` to `target`.

    :raises ImageError: not a .deb.
    """
    with deb.open("rb") as file, target.open("wb") as out:
        member = _find(file, deb, "data.tar")
        for chunk in _decompress(file, member, deb):
            out.write(chunk)


def _members(file: IO[bytes], deb: Path) -> Iterator[_Member]:
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise _broken(deb, "no ar archive")
    while header := file.read(AR_HEADER):
        if len(header) != AR_HEADER or header[58:60] != b"`\n":
            raise _broken(deb, "a damaged ar header")
        # 16 bytes name (GNU ar ends it with a slash), 32 of times and owners, 10 of decimal size
        member = _Member(header[:16].decode().rstrip().rstrip("/"), file.tell(), int(header[48:58]))
        yield member
        file.seek(member.offset + member.size + member.size % 2)


def _find(file: IO[bytes], deb: Path, prefix: str) -> _Member:
    for member in _members(file, deb):
        if member.name.startswith(prefix):
            file.seek(member.offset)
            return member
    raise _broken(deb, f"it holds no {prefix}")


def _decompress(file: IO[bytes], member: _Member, deb: Path) -> Iterator[bytes]:
    """The member's content in chunks; `file` stands at its start."""
    suffix = member.name.rpartition(".")[2]
    decoder = _decoder(suffix, deb)
    left = member.size
    while left:
        data = file.read(min(CHUNK, left))
        if not data:
            raise _broken(deb, "it ends early")
        left -= len(data)
        yield data if decoder is None else _feed(decoder, data, deb)


def _feed(decoder: Any, data: bytes, deb: Path) -> bytes:
    try:
        return bytes(decoder.decompress(data))
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise _broken(deb, str(error)) from error


def _decoder(suffix: str, deb: Path) -> Any:
    if suffix == "tar":
        return None
    if suffix == "xz":
        return lzma.LZMADecompressor()
    if suffix == "gz":
        return zlib.decompressobj(GZIP_WINDOW)
    if suffix == "zst":
        return load_zstd(deb.name).ZstdDecompressor()
    raise _broken(deb, f"unknown compression .{suffix}")


def _broken(deb: Path, why: str) -> ImageError:
    return ImageError(f"{deb.name} is not a Debian package", why, f"Remove {deb} and try again")
