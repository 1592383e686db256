"""A tar in zstd, written and read in one pass: nothing of it is held, nothing is believed that was not announced."""

from __future__ import annotations

import hashlib
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from images.artefact.layout import refused
from images.disk import CHUNK
from images.errors import ImageError
from images.zstd import MAGIC, load_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from images.artefact.layout import Blob

BLOCK = 512  # of tar
_NAME_FIELD = 100  # bytes of a tar header
LEVEL = 3
WORKERS = 4
JOB = 2 << 20
"""Bytes that a compressing thread takes at a time: what it holds follows from it."""
_SKIPPED = b"\x2a\x4d\x18"
"""With 0x50 to 0x5f before it: a frame that is passed over, with which other compressors begin."""
_FIRST = {
    "oci-layout": ("an exported image", "hostvm image import"),
    "bundle.json": ("a bundle", "hostvm bundle load"),
}
"""What begins with that member, and who takes it."""
# The decompressor's memory is the sender's choice up to this: 8 MiB; what `export` writes needs 2 MiB.
WINDOW_LOG = 23


def packer() -> Any:
    """A compressor whose output depends on its input alone."""
    zstd = load_zstd("an exported image")
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(
        options={
            parameter.compression_level: LEVEL,
            parameter.checksum_flag: 1,
            parameter.nb_workers: WORKERS,  # a constant, so that the same image gives the same bytes
            parameter.job_size: JOB,
        }
    )


def header(name: str, size: int) -> bytes:
    """A tar member's header; the same facts give the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What fills the last block of that many bytes."""
    return bytes(-size % BLOCK)


@contextmanager
def open_zstd(source: IO[bytes], where: str) -> Iterator[IO[bytes]]:
    """The decompressed stream; every way in which it can be broken is one error."""
    source = _with_magic(source, where)
    zstd = load_zstd(where)
    limit = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    try:
        with zstd.ZstdFile(source, "r", options=limit) as stream:
            yield stream
    except zstd.ZstdError as error:
        raise refused(where, f"it cannot be decompressed ({error})") from error
    except EOFError as error:
        raise refused(where, "it ends too early") from error


def _with_magic(source: IO[bytes], where: str) -> Any:
    """The same, whose beginning was looked at: what was never one of these files is not told as a damaged one."""
    head = source.read(len(MAGIC))
    if head and head != MAGIC and not (head[0] >> 4 == 5 and head[1:] == _SKIPPED):  # noqa: PLR2004 - 0x50 to 0x5f
        raise ImageError(
            f"{where} is neither an exported guest image nor a bundle",
            "It is not compressed with zstd.",
            "See what it is: `file FILE`. Container images are for the engine: `hostvm docker load -i FILE`",
        )
    return _Joined(head, source)


@dataclass(slots=True)
class _Joined:
    """What was read of a stream, and the rest."""

    head: bytes
    source: IO[bytes]

    def read(self, size: int = -1) -> bytes:
        """As of a stream."""
        if not self.head:
            return self.source.read(size)
        data, self.head = self.head, b""
        return data


@dataclass(slots=True)
class TarReader:
    """Reads the members that must come, in the order in which they must come."""

    stream: IO[bytes]
    where: str
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(CHUNK)))

    def expect(self, name: str, most: int) -> bytes:
        """The content of the next member, which must have that name and at most that many bytes."""
        size = self._open(name)
        if size > most:
            raise refused(self.where, f"{name} has {size} bytes, more than {most}")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def small(self, name: str, blob: Blob) -> bytes:
        """A small blob, checked."""
        data = self.expect(name, blob.size)
        if len(data) != blob.size or hashlib.sha256(data).hexdigest() != blob.sha256:
            raise refused(self.where, f"{blob.title or blob.media_type} is not what its description promises")
        return data

    def save(self, name: str, blob: Blob, target: Path, advance: Callable[[int], None]) -> None:
        """Write a part to a file and check it while it passes."""
        with target.open("xb", buffering=0) as file:

            def keep(data: memoryview) -> None:
                while data:  # a disk that is nearly full takes some of it, and fails at the next call
                    data = data[file.write(data) :]

            self.check(name, blob, advance, keep)

    def check(
        self, name: str, blob: Blob, advance: Callable[[int], None], keep: Callable[[memoryview], object] | None = None
    ) -> None:
        """Check a part while it passes.

        :param keep: is given its bytes.
        """
        size = self._open(name)
        if size != blob.size:
            raise refused(self.where, f"{blob.title} has {size} bytes instead of {blob.size}")
        digest = hashlib.sha256()
        while size:
            got = self.stream.readinto(self.buffer[: min(size, CHUNK)])  # type: ignore[attr-defined]
            if not got:
                raise EOFError
            digest.update(self.buffer[:got])
            if keep is not None:
                keep(self.buffer[:got])
            size -= got
            advance(got)
        self._exactly(-blob.size % BLOCK)
        if digest.hexdigest() != blob.sha256:
            raise refused(self.where, f"{blob.title} is not what its manifest promises")

    def end(self) -> None:
        """Nothing may follow but tar's own end."""
        rest = self.stream.read(BLOCK * 64)
        if rest.strip(b"\0") or self.stream.read(1):
            raise refused(self.where, "something follows its end")

    def _open(self, name: str) -> int:
        # A name of more than 100 bytes has a member of its own before it, whose bytes follow from the name.
        before = header(name, 0)[:-BLOCK]
        try:
            if self._exactly(len(before)) != before:
                raise refused(self.where, f"something else is where {name} should be")
            info = tarfile.TarInfo.frombuf(self._exactly(BLOCK), "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise refused(self.where, f"no file header where {name} should be") from error
        if name in _FIRST and info.name in _FIRST and name != info.name:
            noun, command = _FIRST[info.name]
            raise ImageError(f"{self.where} is {noun}", None, f"Take it with `{command} FILE`")
        if info.name != name[:_NAME_FIELD] or not info.isreg() or info.size < 0:
            raise refused(self.where, f"{info.name!r} is where {name} should be"[:200])
        return int(info.size)

    def _exactly(self, size: int) -> bytes:
        data = self.stream.read(size)
        while len(data) < size:
            more = self.stream.read(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
