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
import re
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from images.artefact.incoming import Intake, sign_and_describe
from images.artefact.layout import SMALL, Artefact, parse_artefact, refused
from images.artefact.stream import BLOCK, TarReader, header, open_zstd, packer, padding
from images.disk import CHUNK, disk_full_explained, temporary_folder, work_lock
from images.errors import ImageError
from images.oci import MANIFEST_TYPE
from images.store import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from images.artefact.incoming import Received
    from images.artefact.layout import Blob
    from images.artefact.minisign import SecretKey
    from images.artefact.trust import KeyRing
    from images.progress import Progress
    from images.store import Image

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ELSEWHERE = "Choose another place: `-o FILE`"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def export_image(image: Image, target: IO[bytes], cache: Path, progress: Progress, key: SecretKey | None) -> Artefact:
    """Write an image to a stream, with its signatures; every part is checked as it is read.

    :param key: adds a signature of one's own, which the store keeps too.
    :raises HashError: the stored image is damaged; what was written is then worthless.
    :raises OSError: the stream's own, e.g. no space.
    """
    artefact = sign_and_describe(image, cache, key)
    pack = packer()

    def put(data: bytes) -> None:
        target.write(pack.compress(data))

    with progress.task("exporting", image.size, "B") as task:
        for name, data in _small_members(artefact):
            put(header(name, len(data)) + data + padding(len(data)))
        for part in artefact.parts:
            put(header(_blob_path(part), part.size))
            for chunk in _checked_chunks(image, part):
                put(chunk)
                task.advance(len(chunk))
            put(padding(part.size))
        put(bytes(2 * BLOCK))
        target.write(pack.flush())
    return artefact


def import_image(
    source: IO[bytes], where: str, cache: Path, ring: KeyRing, progress: Progress, *, allow_unsigned: bool = False
) -> Received:
    """Read an exported image and store it, whole or not at all; who signed it is decided before its parts are read.

    The file is read to its end and checked, too, when the image is stored already; nothing is stored twice then.

    :param where: the file's name, for messages.
    :raises SignatureError: see `KeyRing.judge`.
    :raises ImageError: not an exported image, cut short, or changed.
    :raises DiskFullError: no space.
    """
    images = cache / "images"
    with open_zstd(source, where) as stream:
        # Before the lock: who writes it may have to make an image first.
        tar = TarReader(stream, where)
        artefact = _read_index(tar, where)
        small = {blob.sha256: tar.small(_blob_path(blob), blob) for blob in _small_blobs(artefact)}
        intake = Intake(artefact, small, where, cache, ring, allow_unsigned)
        verdict = intake.judge()
        with work_lock(images, progress), temporary_folder(images) as work:
            known = intake.stored()
            folder = intake.make_room(work) if known is None else work
            with progress.task("importing", sum(part.size for part in artefact.parts), "B") as task:
                for part in artefact.parts:
                    if known is None:
                        tar.save(_blob_path(part), part, folder / part.title, task.advance)
                    else:
                        tar.check(_blob_path(part), part, task.advance)
            tar.end()
            return intake.store(folder, verdict) if known is None else intake.note(known, verdict)


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


def _checked_chunks(image: Image, part: Blob) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        with (image.path / part.title).open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
    except OSError as error:  # or it would count as one of the place that is written to
        raise damaged(image, part.title, str(error)) from error
    if (digest.hexdigest(), size) != (part.sha256, part.size):
        raise damaged(image, part.title)


def _read_index(tar: TarReader, where: str) -> Artefact:
    tar.expect("oci-layout", SMALL)
    try:
        (listed,) = json.loads(tar.expect("index.json", SMALL))["manifests"]
        digest, size = str(listed["digest"]).removeprefix("sha256:"), int(listed["size"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise refused(where, f"its index cannot be read: {error!r}"[:200]) from error
    if not _DIGEST.fullmatch(digest):
        raise refused(where, f"its index names {digest!r}"[:200])
    data = tar.expect(f"blobs/sha256/{digest}", SMALL)
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise refused(where, "its OCI manifest is not the one its index names")
    return parse_artefact(data, where)


def _usual_part(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.part")


@contextmanager
def whole_file(path: Path, part: Callable[[Path], Path] = _usual_part) -> Iterator[IO[bytes]]:
    """A new file that appears under its name when it is complete, and not at all otherwise.

    A link is followed. What is no file (a device, a pipe) stays, and is written to.

    :param part: what it is called until then, beside its place.
    :raises DiskFullError: no space; nothing is left.
    :raises ImageError: it cannot be written there.
    """
    try:
        made = _stream(path) if _is_stream(path) else _beside(path.resolve(), part)
        with disk_full_explained(path.parent, f"Free some there. {_ELSEWHERE}"), made as file:
            yield file
    except OSError as error:
        raise ImageError(f"cannot write {path}", str(error), _ELSEWHERE) from error


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        yield file


@contextmanager
def _beside(path: Path, part: Callable[[Path], Path]) -> Iterator[IO[bytes]]:
    beside = part(path)
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def describe(artefact: Artefact) -> dict[str, Any]:
    """Facts for programs."""
    return {"digest": f"sha256:{artefact.config.sha256}", "artefact": f"sha256:{artefact.sha256}"}
