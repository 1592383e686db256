"""`docker cp` by the engine's API: a container's files and this computer's, as tar streams.

docker's client in the guest sees the guest's files only; what is copied here never lies there.
"""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import stat
import tarfile
from typing import TYPE_CHECKING, Any

from hostvm.unpacking import OccupiedError, OutsideError, unpack_member
from runtime.docker.api import path_part, read_chunks, read_piece
from runtime.docker.copy_names import (
    CopyError,
    End,
    absolute,
    is_content,
    keep_ending,
    landing,
    renamed,
    renamed_by_link,
    split_entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from http.client import HTTPResponse
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from runtime.docker.api import EngineApi

_STAT = "X-Docker-Container-Path-Stat"
# Go's os.FileMode, as the engine tells it.
_DIR, _LINK, _DEVICE, _IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
_CHUNK = 256 * 1024
_LINKS_MOST = 10


def copy_in(api: EngineApi, source: str, container: str, path: str, *, archive: bool, follow: bool) -> int:
    """Copy `source` of this computer ("-": a tar stream on standard input) to `path` in a container.

    :param archive: the owners that the files have here.
    :param follow: a source that is a link is what it leads to.
    :returns: bytes carried.
    :raises CopyError: what docker's client refuses.
    :raises EngineApiError: what the engine refuses.
    :raises OSError: a file of this computer cannot be read.
    """
    target = _target_there(api, container, path)
    if source == "-":
        if not target.folder:
            raise CopyError(f'destination "{container}:{path}" must be a directory')
        folder, chunks = target.path, _input_chunks()
    else:
        origin = _source_here(absolute(source), follow=follow)
        folder, name = landing(origin, target)
        chunks = _batched(_tar_chunks(origin.path, name))
    carried = _Carried(chunks)
    query = {"path": folder, "noOverwriteDirNonDir": "true"} | ({"copyUIDGID": "true"} if archive else {})
    api.upload("PUT", f"/containers/{path_part(container)}/archive", carried, query=query)
    return carried.size


def copy_out(api: EngineApi, container: str, path: str, target: str, output: BinaryIO, *, follow: bool) -> int:
    """Copy `path` in a container to `target` of this computer ("-": a tar stream to `output`).

    Nothing lands outside of the target, whatever the archive says. Files belong to the user.

    :returns: bytes carried.
    :raises CopyError: what docker's client refuses.
    :raises EngineApiError: what the engine refuses.
    :raises OSError: a file of this computer cannot be written.
    """
    if target != "-":
        target = absolute(target)
        _check_output(target)
    rebase = ""
    if follow and (facts := _stat(api, container, path)) and facts["mode"] & _LINK:
        path, rebase = renamed_by_link(path, _link_target(path, facts), posixpath)
    with api.open("GET", f"/containers/{path_part(container)}/archive", query={"path": path}) as response:
        if target == "-":
            return sum(output.write(chunk) for chunk in read_chunks(response))
        mode = _facts(response)["mode"]
        source = End(path, posixpath, exists=True, folder=bool(mode & _DIR), rebase=rebase)
        folder, becomes = landing(source, _target_here(target))
        body = _Body(response)
        try:
            with tarfile.open(fileobj=body, mode="r|", bufsize=_CHUNK) as tar:
                _unpack(tar, folder, split_entry(path, posixpath)[1], becomes)
            _read_rest(body)
        except tarfile.TarError as fault:  # the engine makes none of a file that becomes shorter meanwhile
            raise CopyError(f"the archive of {container}:{path} is damaged: {fault}") from None
        return body.size


# ---- the two ends


def _stat(api: EngineApi, container: str, path: str) -> dict[str, Any] | None:
    from runtime.docker.api import EngineApiError

    try:
        with api.open("HEAD", f"/containers/{path_part(container)}/archive", query={"path": path}) as response:
            return _facts(response)
    except EngineApiError as fault:
        if fault.status == 0:
            raise
        return None  # as docker's client does: the copy itself tells what is wrong


def _facts(response: HTTPResponse) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(base64.b64decode(response.headers[_STAT]))
    return facts


def _link_target(path: str, facts: dict[str, Any]) -> str:
    return posixpath.normpath(posixpath.join(split_entry(path, posixpath)[0], str(facts["linkTarget"])))


def _target_there(api: EngineApi, container: str, path: str) -> End:
    facts, place = _stat(api, container, path), path
    if facts is not None and facts["mode"] & _LINK:
        place = _link_target(path, facts)
        facts = _stat(api, container, place)
    mode = 0 if facts is None else int(facts["mode"])
    for bit, what in ((_DEVICE, "a device"), (_IRREGULAR, "an irregular file")):
        if mode & bit:
            raise CopyError(f'destination "{container}:{path}" must be a directory or a regular file: got {what}')
    return End(place, posixpath, exists=facts is not None, folder=bool(mode & _DIR))


def _source_here(path: str, *, follow: bool) -> End:
    rebase = ""
    try:
        if follow:
            path, rebase = renamed_by_link(path, os.path.realpath(path, strict=True), os.path)
        elif path.endswith(os.sep) or is_content(path, os.path):
            # A link that is said to be a folder is that folder, under the link's name.
            path, rebase = renamed_by_link(path, os.path.realpath(path, strict=True), os.path)
            if not os.path.isdir(path):  # noqa: PTH112 - text throughout
                raise CopyError("not a directory")
        folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as fault:
        raise CopyError(f"lstat {path}: {str(fault.strerror).lower()}") from None
    return End(path, os.path, exists=True, folder=folder, rebase=rebase)


def _check_output(path: str) -> None:
    parent = os.path.dirname(os.path.normpath(path))  # noqa: PTH120 - text throughout
    if not os.path.exists(parent):  # noqa: PTH110
        raise CopyError(f'invalid output path: directory "{parent}" does not exist')
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):  # noqa: PTH110, PTH112, PTH113
        raise CopyError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


def _target_here(path: str) -> End:
    for _ in range(_LINKS_MOST):
        if not os.path.islink(path.rstrip(os.sep)):  # noqa: PTH114
            break
        plain = path.rstrip(os.sep)
        path = keep_ending(os.path.normpath(os.path.join(os.path.dirname(plain), os.readlink(plain))), path, os.path)  # noqa: PTH115, PTH118, PTH120
    else:
        raise CopyError("too many symlinks")
    exists, folder = os.path.lexists(path), os.path.isdir(path)  # noqa: PTH112
    if not exists and os.path.lexists(path.rstrip(os.sep)):
        raise CopyError(f"stat {path}: not a directory")
    if not exists and not os.path.isdir(split_entry(path, os.path)[0]):  # noqa: PTH112
        raise CopyError("not a directory")
    return End(path, os.path, exists=exists, folder=folder)


# ---- archives


class _Carried:
    """Chunks that are counted as they are taken."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


class _Body(io.RawIOBase):
    """A response as tarfile reads it."""

    def __init__(self, response: HTTPResponse) -> None:
        super().__init__()
        self._response = response
        self.size = 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        room = memoryview(buffer)
        data = read_piece(self._response, len(room))
        room[: len(data)] = data
        self.size += len(data)
        return len(data)


def _read_rest(body: _Body) -> None:
    """What follows the last member: zeros, but of an archive that breaks off in a header tarfile takes it for the end.

    :raises tarfile.ReadError: it does.
    :raises EngineApiError: it is cut off.
    """
    while body.read(_CHUNK):
        pass
    if body.size % tarfile.BLOCKSIZE:
        raise tarfile.ReadError("unexpected end of data")


def _input_chunks() -> Iterator[bytes]:
    while data := os.read(0, _CHUNK):
        yield data


def _batched(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small ones joined: each that is sent costs a packet."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _tar_chunks(path: str, name: str) -> Iterator[bytes]:
    """A file or whole folder as a tar stream whose first name is `name`; made as it is read, with nothing kept."""
    with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as tar:
        yield from _members(tar, path, name)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _members(tar: tarfile.TarFile, path: str, name: str) -> Iterator[bytes]:
    member = tar.gettarinfo(path, name)
    if member is None:
        return  # a socket, which no archive can hold
    member.uname = member.gname = ""
    yield member.tobuf(tarfile.PAX_FORMAT, tar.encoding, "surrogateescape")
    if member.isreg():
        yield from _content(path, member.size)
    elif member.isdir():
        for entry in sorted(os.listdir(path)):  # noqa: PTH208 - text throughout
            yield from _members(tar, os.path.join(path, entry), f"{name}/{entry}")  # noqa: PTH118


def _content(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise OSError(5, "it became shorter while it was copied", path)
            left -= len(data)
            yield data
    yield bytes(-size % tarfile.BLOCKSIZE)


def _unpack(tar: tarfile.TarFile, folder: str, was: str, becomes: str) -> None:
    folders: list[tuple[tarfile.TarInfo, str, int]] = []
    for member in tar:
        member.name = renamed(member.name, was, becomes)
        if member.islnk():
            member.linkname = renamed(member.linkname, was, becomes)
        place, mode = os.path.join(folder, member.name), member.mode & 0o7777  # noqa: PTH118 - text throughout
        if os.path.normpath(place) == os.path.normpath(folder):
            continue  # the target itself keeps its mode and time
        try:
            unpack_member(tar, member, folder, mode=mode)
        except (OutsideError, OccupiedError) as fault:
            raise CopyError(str(fault)) from None
        if member.isdir():
            folders.append((member, place, mode))
    # A folder's mode and time come last: what is made in it needs the one and changes the other.
    for member, place, mode in reversed(folders):
        os.chmod(place, mode)  # noqa: PTH101
        tar.utime(member, place)
