"""One image as one file: an OCI layout as a tar in zstd, written and read in one pass, nothing of it held.

    oci-layout · index.json · blobs/sha256/… of the OCI manifest, the image's manifest, signatures, package list,
    vmlinuz, initramfs, root.erofs

The order is fixed: every name and size is known from what came before, so nothing else is ever accepted, and no
name from the file becomes a path. `zstd -d` makes a tar of it that OCI tools read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from images.artefact.incoming import Intake, sign_and_describe
from images.artefact.layout import SMALL, Artefact, parse_artefact, refused
from images.disk import CHUNK, disk_full_explained, temporary_folder, work_lock
from images.errors import HashError, ImageError
from images.oci import MANIFEST_TYPE
from images.zstd import load_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from images.artefact.incoming import Received
    from images.artefact.layout import Blob
    from images.artefact.minisign import SecretKey
    from images.artefact.trust import KeyRing
    from images.progress import Progress
    from images.store import Image

BLOCK = 512  # of tar
LEVEL = 3
WORKERS = 4
JOB = 2 << 20
"""Bytes that a compressing thread takes at a time: what it holds follows from it."""
MAGIC = b"\x28\xb5\x2f\xfd"
# The decompressor's memory is the sender's choice up to this: 8 MiB; what `export` writes needs 2 MiB.
WINDOW_LOG = 23
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def export_image(image: Image, target: IO[bytes], cache: Path, progress: Progress, key: SecretKey | None) -> Artefact:
    """Write an image to a stream, with its signatures; every part is checked as it is read.

    :param key: adds a signature of one's own, which the store keeps too.
    :raises HashError: the stored image is damaged; what was written is then worthless.
    :raises OSError: the stream's own, e.g. no space.
    """
    artefact = sign_and_describe(image, cache, key)
    zstd = load_zstd("an exported image")
    parameter = zstd.CompressionParameter
    pack = zstd.ZstdCompressor(
        options={
            parameter.compression_level: LEVEL,
            parameter.checksum_flag: 1,
            parameter.nb_workers: WORKERS,  # a constant, so that the same image gives the same bytes
            parameter.job_size: JOB,
        }
    )

    def put(data: bytes) -> None:
        target.write(pack.compress(data))

    with progress.task("exporting", image.size, "B") as task:
        for name, data in _small_members(artefact):
            put(_header(name, len(data)) + data + _padding(len(data)))
        for part in artefact.parts:
            put(_header(_blob_path(part), part.size))
            for chunk in _checked_chunks(image, part):
                put(chunk)
                task.advance(len(chunk))
            put(_padding(part.size))
        put(bytes(2 * BLOCK))
        target.write(pack.flush())
    return artefact


def import_image(
    source: IO[bytes], where: str, cache: Path, ring: KeyRing, progress: Progress, *, allow_unsigned: bool = False
) -> Received:
    """Read an exported image and store it, whole or not at all; who signed it is decided before its parts are read.

    An image that is stored already is not read to its end.

    :param where: the file's name, for messages.
    :raises SignatureError: see `KeyRing.judge`.
    :raises ImageError: not an exported image, cut short, or changed.
    :raises DiskFullError: no space.
    """
    images = cache / "images"
    with _open_zstd(source, where) as stream, work_lock(images, progress), temporary_folder(images) as work:
        tar = _TarReader(stream, where)
        artefact = _read_index(tar, where)
        small = {blob.sha256: tar.small(blob) for blob in _small_blobs(artefact)}
        intake = Intake(artefact, small, where, cache, ring, allow_unsigned)
        verdict = intake.judge()
        if (known := intake.stored()) is not None:
            return intake.note(known, verdict)
        folder = intake.make_room(work)
        with progress.task("importing", sum(part.size for part in artefact.parts), "B") as task:
            for part in artefact.parts:
                tar.save(part, folder / part.title, task.advance)
        tar.end()
        return intake.store(folder, verdict)


def _small_members(artefact: Artefact) -> Iterator[tuple[str, bytes]]:
    listed = {"mediaType": MANIFEST_TYPE, "digest": f"sha256:{artefact.sha256}", "size": len(artefact.manifest)}
    yield "oci-layout", _LAYOUT
    yield "index.json", json.dumps({"schemaVersion": 2, "manifests": [listed]}, separators=(",", ":")).encode()
    yield f"blobs/sha256/{artefact.sha256}", artefact.manifest
    for blob in _small_blobs(artefact):
        yield _blob_path(blob), artefact.small[blob.sha256]


def _small_blobs(artefact: Artefact) -> list[Blob]:
    return [artefact.config, *(layer for layer in artefact.layers if layer not in artefact.parts)]


def _blob_path(blob: Blob) -> str:
    return f"blobs/sha256/{blob.sha256}"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _checked_chunks(image: Image, part: Blob) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    with (image.path / part.title).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
    if (digest.hexdigest(), size) != (part.sha256, part.size):
        raise HashError(
            f"image {image.digest[:12]} is damaged",
            f"{image.path / part.title} was changed.",
            f"`hostvm image rm {image.digest[:12]}`, then `hostvm image build`",
        )


def _read_index(tar: _TarReader, where: str) -> Artefact:
    tar.expect("oci-layout", SMALL)
    try:
        (listed,) = json.loads(tar.expect("index.json", SMALL))["manifests"]
        digest, size = str(listed["digest"]).removeprefix("sha256:"), int(listed["size"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(where, f"its index cannot be read: {error!r}"[:200]) from error
    data = tar.expect(f"blobs/sha256/{digest}", SMALL)
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise refused(where, "its OCI manifest is not the one its index names")
    return parse_artefact(data, where)


@contextmanager
def _open_zstd(source: IO[bytes], where: str) -> Iterator[IO[bytes]]:
    """The decompressed stream; every way in which it can be broken is one error."""
    zstd = load_zstd(where)
    limit = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    try:
        with zstd.ZstdFile(source, "r", options=limit) as stream:
            yield stream
    except zstd.ZstdError as error:
        raise refused(where, f"it cannot be decompressed ({error})") from error
    except EOFError as error:
        raise refused(where, "it ends too early") from error


@dataclass(slots=True)
class _TarReader:
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

    def small(self, blob: Blob) -> bytes:
        """A small blob, checked."""
        data = self.expect(_blob_path(blob), blob.size)
        if len(data) != blob.size or hashlib.sha256(data).hexdigest() != blob.sha256:
            raise refused(self.where, f"{blob.title or blob.media_type} is not what its description promises")
        return data

    def save(self, blob: Blob, target: Path, advance: Callable[[int], None]) -> None:
        """Write a part to a file and check it while it passes."""
        size = self._open(_blob_path(blob))
        if size != blob.size:
            raise refused(self.where, f"{blob.title} has {size} bytes instead of {blob.size}")
        digest = hashlib.sha256()
        with target.open("xb", buffering=0) as file:
            while size:
                got = self.stream.readinto(self.buffer[: min(size, CHUNK)])  # type: ignore[attr-defined]
                if not got:
                    raise EOFError
                digest.update(self.buffer[:got])
                file.write(self.buffer[:got])
                size -= got
                advance(got)
        self._exactly(-blob.size % BLOCK)
        if digest.hexdigest() != blob.sha256:
            raise refused(self.where, f"{blob.title} is not what its manifest promises")

    def end(self) -> None:
        """Nothing may follow but tar's own end."""
        rest = self.stream.read(BLOCK * 64)
        if rest.strip(b"\0") or self.stream.read(1):
            raise refused(self.where, "something follows the image")

    def _open(self, name: str) -> int:
        try:
            info = tarfile.TarInfo.frombuf(self._exactly(BLOCK), "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise refused(self.where, f"no file header where {name} should be") from error
        if info.name != name or not info.isreg() or info.size < 0:
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


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that appears under its name when it is complete, and not at all otherwise.

    :raises DiskFullError: no space; nothing is left.
    :raises ImageError: it cannot be written there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with disk_full_explained(path.parent):
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
    except OSError as error:
        raise ImageError(f"cannot write {path}", str(error), "Choose another place: `-o FILE`") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def describe(artefact: Artefact) -> dict[str, Any]:
    """Facts for programs."""
    return {"digest": f"sha256:{artefact.config.sha256}", "artefact": f"sha256:{artefact.sha256}"}
