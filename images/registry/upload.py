"""Sending a blob in chunks, and going on where it ended: within a run, and in the next one.

CACHE/images/uploads/HASH.json   where the registry said that an upload goes on; gone when it is complete
CACHE/images/uploads/HASH.lock   held by the one push that reads and writes it: two would send into one upload
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import requests
from filelock import FileLock, Timeout

from images.disk import CHUNK
from images.errors import RegistryError
from images.registry.client import ACCEPTED, CREATED, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from images.artefact.layout import Blob
    from images.registry.client import Repository

PIECE = 8 * CHUNK
MOST_PIECE = 64 * CHUNK
NO_CONTENT = 204
# Older editions of the specification had 204 for both, and Amazon's registry says 201 of a piece.
_TAKEN, _COMPLETE = (ACCEPTED, CREATED, NO_CONTENT), (CREATED, NO_CONTENT)
# What registries say of an upload that they cannot go on with: unknown, or at another place.
_LOST = (404, 416)
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass(slots=True)
class Upload:
    """One blob on its way.

    :param open_source: opens its bytes; seekable.
    :param advance: is told of bytes that arrived, and of negative ones when they have to be sent again.
    :param noted: where it goes on is remembered for another run.
    :param whole: in one piece, for a registry that takes no second one.
    """

    repository: Repository
    blob: Blob
    open_source: Callable[[], IO[bytes]]
    notes: Path
    advance: Callable[[int], None]
    location: str = ""
    have: int = 0
    told: int = 0
    noted: bool = False
    whole: bool = False
    piece: int = field(default_factory=lambda: PIECE)

    def run(self) -> bool:
        """Send the blob unless the registry has it; returns whether it was sent.

        While another push sends the same there, it goes its own way, and what it sent is not remembered.

        :raises RegistryError: the registry does not answer for long, or refuses.
        """
        self.notes.mkdir(parents=True, exist_ok=True)
        path = self._path().with_suffix(".lock")
        lock = FileLock(path)
        with suppress(Timeout):
            lock.acquire(timeout=0)
        self.noted = lock.is_locked and path.exists()  # or it is that of a push that ends now
        try:
            return self._persist()
        finally:
            if self.noted:
                with suppress(OSError):  # Windows: `release` removes it
                    path.unlink()
            lock.release()

    def _persist(self) -> bool:
        patience, failures, best = self.repository.access.patience, 0, -1
        while True:
            try:
                return self._attempt(ask=failures > 0)
            except requests.RequestException as error:
                # Patience is for a registry that brings us no further, not for the number of interruptions.
                failures, best = (failures + 1, best) if self.have <= best else (1, self.have)
                if failures >= patience.attempts:
                    raise unreachable(self.repository.reference, error) from error
                failed = error
            # `advance` ends the wait of a push that is given up.
            patience.rest(patience.pause * 2 ** (failures - 1), self._home(), failed, lambda: self.advance(0))

    def _attempt(self, *, ask: bool) -> bool:
        if self.repository.has(self.blob):
            self._tell(self.blob.size)
            self._forget()
            return False
        if not self.location:
            self._recall()
        if self.location and (ask or not self.have):
            self._ask()
        if not self.location:
            self._begin()
        with self.open_source() as source:
            while self.have < self.blob.size:
                self._send_piece(source)
        self._finish()
        return True

    def _begin(self) -> None:
        answer = self.repository.send("POST", self.repository.url("blobs/uploads/"), (ACCEPTED,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdigit() and not self.whole:
            self.piece = min(max(self.piece, int(least)), MOST_PIECE)
        self._moved(answer, 0)

    def _send_piece(self, source: IO[bytes]) -> None:
        source.seek(self.have)
        end = self.blob.size if self.whole else min(self.have + self.piece, self.blob.size)
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{self.have}-{end - 1}"}
        # Bytes would go in one call, which has a few seconds for all of them, however slow the line; a stream goes in
        # blocks that have as many each.
        body = _Section(self, source, end - self.have)
        answer = self.repository.send("PATCH", self.location, (*_TAKEN, *_LOST), data=body, headers=headers)
        if answer.status_code in _LOST:
            self._forget()
            raise requests.ConnectionError("the registry no longer knows the upload")
        # "0-0" means nothing or one byte; after an accepted piece it is what was sent.
        have, before = min(_received(answer), self.blob.size) or end, self.have
        self._moved(answer, have)
        if have <= before:
            if self.whole or self.blob.size > self.piece:  # Amazon's takes no second piece: all of it in one
                self._forget()
                self.whole = True
            raise requests.ConnectionError(f"the registry took a piece, and still has {have} bytes")

    def _finish(self) -> None:
        joint = "&" if "?" in self.location else "?"
        address = f"{self.location}{joint}digest=sha256:{self.blob.sha256}"
        try:
            self.repository.send("PUT", address, _COMPLETE, headers={"Content-Length": "0"})
        finally:
            self._forget()  # complete or refused: either way it does not go on

    def _ask(self) -> None:
        """How far it came; an upload that the registry no longer knows starts over."""
        try:
            answer = self.repository.send("GET", self.location, (NO_CONTENT,))
        except RegistryError:
            self._forget()
            return
        if answer.headers.get("Location"):
            self._moved(answer, min(_received(answer), self.blob.size))
        else:
            self._set(min(_received(answer), self.blob.size))

    def _moved(self, answer: requests.Response, have: int) -> None:
        self.location = self.repository.locate(answer)
        if self.noted:
            path, beside = self._path(), self._path().with_suffix(f".{os.getpid()}")
            note = {"repository": self._home(), "location": self.location}
            beside.write_text(json.dumps(note), encoding="utf-8")
            beside.replace(path)
        self._set(have)  # last: a push that is given up ends here, and its note must be the newest

    def _set(self, have: int) -> None:
        self.have = have
        self._tell(have)

    def _tell(self, position: int) -> None:
        if position != self.told:
            self.advance(position - self.told)
            self.told = position

    def _recall(self) -> None:
        if not self.noted:
            return
        try:
            note = json.loads(self._path().read_bytes())
            if note["repository"] == self._home():
                self.location = str(note["location"])
        except (OSError, ValueError, KeyError, TypeError):
            return

    def _forget(self) -> None:
        self.location, self.have = "", 0
        if self.noted:
            self._path().unlink(missing_ok=True)

    def _home(self) -> str:
        return self.repository.url("")

    def _path(self) -> Path:
        key = hashlib.sha256(f"{self._home()} {self.blob.sha256}".encode()).hexdigest()
        return self.notes / f"{key}.json"


class _Section(io.RawIOBase):
    """The next bytes of a blob as a stream of that length; a push that is given up ends at its next block."""

    def __init__(self, upload: Upload, source: IO[bytes], size: int) -> None:
        super().__init__()
        self._upload, self._source, self._size = upload, source, size
        self._start, self._at = source.tell(), 0

    def __len__(self) -> int:
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Begin again, when it has to be sent once more."""
        self._at = offset if whence == io.SEEK_SET else self._at
        self._source.seek(self._start + self._at)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next block.

        :raises RegistryError: the file is shorter than its description says, or the push is given up.
        """
        self._upload.advance(0)
        left = self._size - self._at
        data = self._source.read(left if size < 0 else min(size, left))
        if not data and left:
            raise RegistryError(
                f"{self._upload.blob.title or 'the manifest'} became shorter while it was sent",
                None,
                "Look at the stored image: `hostvm image ls`",
            )
        self._at += len(data)
        return data


def _received(answer: requests.Response) -> int:
    match = _RANGE.fullmatch(answer.headers.get("Range", ""))
    last = int(match[1]) if match else 0
    return last + 1 if last else 0
