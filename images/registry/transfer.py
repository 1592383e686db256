"""Guest images to and from registries."""

from __future__ import annotations

import io
import shutil
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

from images.archive.fetch import Wanted
from images.artefact.incoming import Intake, sign_and_describe
from images.artefact.layout import parse_artefact
from images.disk import disk_full_explained, temporary_folder, work_lock
from images.errors import ImageError, RegistryError, UsageError
from images.records import add_record
from images.registry.choice import choose_member
from images.registry.client import Repository
from images.registry.upload import Upload

if TYPE_CHECKING:
    from pathlib import Path

    from images.artefact.incoming import Received
    from images.artefact.layout import Artefact, Blob
    from images.artefact.minisign import SecretKey
    from images.artefact.trust import KeyRing
    from images.progress import Progress, Task
    from images.registry.client import Access
    from images.registry.reference import Reference
    from images.store import Image

SENDERS = 3


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    :param sent: bytes that the registry did not have.
    """

    artefact: Artefact
    reference: Reference
    sent: int


def push_image(
    image: Image, reference: Reference, access: Access, cache: Path, progress: Progress, key: SecretKey | None
) -> Pushed:
    """Send an image; what the registry has already is not sent again. The tag is set last.

    :raises RegistryError: the registry cannot be reached, or refuses.
    :raises UsageError: the reference is a digest.
    """
    if reference.digest:
        raise UsageError(
            "an image is pushed to a tag, not to a digest",
            "Its digest follows from what it is; push prints it.",
            f"For example: hostvm image push {image.name} {reference.host}/{reference.name}:1",
        )
    artefact = sign_and_describe(image, cache, key)
    repository = Repository(reference, access.telling(progress.note), "pull,push")
    blobs = list({blob.sha256: blob for blob in (artefact.config, *artefact.layers)}.values())
    with (
        disk_full_explained(cache),
        progress.task("pushing", sum(blob.size for blob in blobs), "B") as task,
        ThreadPoolExecutor(SENDERS, "push") as pool,
    ):
        teller = _Teller(task)
        notes = cache / "images" / "uploads"
        uploads = [Upload(repository, b, partial(_source, image, artefact, b), notes, teller.advance) for b in blobs]
        futures = [pool.submit(upload.run) for upload in uploads]
        try:
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()  # the fault that came first, before those that it brings about
            sent = [future.result() for future in futures]
        except BaseException:
            teller.stop.set()  # a Ctrl-C or the first fault ends the others at their next piece
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    repository.put_manifest(artefact.manifest)
    digest = reference.at(f"sha256:{artefact.sha256}")
    add_record(cache, image.digest, references=(str(reference), str(digest)))
    return Pushed(artefact, digest, sum(blob.size for blob, new in zip(blobs, sent, strict=True) if new))


def pull_image(
    reference: Reference,
    access: Access,
    cache: Path,
    ring: KeyRing,
    progress: Progress,
    *,
    allow_unsigned: bool = False,
    arch: str = "",
    own: str = "",
) -> Received:
    """Fetch an image, whole or not at all; who signed it is decided before its parts are fetched.

    Parts come in parallel and are checked as they stream; what came stays in the cache, so another try goes on. An
    image that is stored already is read and checked, and fetched only when it is damaged.

    :param arch: of which it has to be; "" for any.
    :param own: this computer's architecture, which any one means where the reference is a list of images.
    :raises SignatureError: see `KeyRing.judge`.
    :raises RegistryError: the registry cannot be reached, refuses, or has no such image.
    :raises ImageError: what it has is no guest image, none of that architecture, or disagrees with itself.
    :raises DiskFullError: no space.
    """
    where, images = str(reference), cache / "images"
    repository = Repository(reference, access.telling(progress.note), "pull")
    manifest = repository.manifest()
    member = choose_member(repository, manifest, arch or own)
    if member:
        manifest = repository.manifest(reference.at(member))
    artefact = parse_artefact(manifest, where)
    small = {blob.sha256: repository.blob(blob) for blob in (artefact.config, *artefact.signatures)}
    intake = Intake(artefact, small, where, cache, ring, allow_unsigned)
    verdict = intake.judge()
    _check_arch(intake, arch or (own if member else ""))
    with work_lock(images, progress), temporary_folder(images) as work:
        known = intake.stored()
        if known is not None:
            received = intake.note(known, verdict)
        else:
            fetcher = repository.fetcher(cache)
            last = {(part.sha256, part.size): part for part in artefact.parts}  # two may be the same bytes
            have = sum(min(part.size, fetcher.fetched(part.sha256)) for part in last.values())
            folder = intake.make_room(work, have)
            wanted = [
                Wanted(part.title, (repository.url(f"blobs/sha256:{part.sha256}"),), part.sha256, part.size)
                for part in last.values()
            ]
            paths = dict(zip(last, fetcher.fetch_all(wanted, progress, "pulling"), strict=True))
            for part in artefact.parts:
                path = paths[part.sha256, part.size]
                if part is last[part.sha256, part.size]:
                    path.replace(folder / part.title)
                else:
                    shutil.copyfile(path, folder / part.title)
            received = intake.store(folder, verdict)
        names = [str(reference.at(f"sha256:{artefact.sha256}"))]
        if not member or arch in ("", own):  # a list's own name means this computer's image
            names.append(str(reference))
        add_record(cache, received.image.digest, references=tuple(names))
        return received


def _check_arch(intake: Intake, wanted: str) -> None:
    if wanted not in ("", intake.arch):
        raise ImageError(
            f"{intake.where} is of {intake.arch}, not of {wanted}",
            None,
            f"Take it as it is: hostvm image pull --arch {intake.arch} {intake.where}; or ask its maker for another",
        )


class _Teller:
    """Advances a bar from several threads, and stops them all."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def advance(self, amount: int) -> None:
        if self.stop.is_set():
            raise RegistryError("the push was given up", "Another part failed.", "Push again: it goes on")
        with self._lock:
            self._task.advance(amount)


def _source(image: Image, artefact: Artefact, blob: Blob) -> IO[bytes]:
    small = artefact.small.get(blob.sha256)
    return (image.path / blob.title).open("rb") if small is None else io.BytesIO(small)
