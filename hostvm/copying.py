"""Files and folders between this computer and a machine's guest, as tar streams; modes and times are kept.

Where things land follows cp -r: into a target that is a folder, else under the target's own name.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from typing import TYPE_CHECKING

from hostvm.agent.client import run_in_guest
from hostvm.agent.pipe import GuestPipe
from hostvm.errors import MachineError
from hostvm.guest import GUEST_HOME
from hostvm.platform.words import show_folder
from hostvm.unpacking import OccupiedError, OutsideError, unpack_member

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import ReadableBuffer, WriteableBuffer

    from images.progress import Task

_SECONDS = 30.0
# What a path is in the guest, by its arguments: no word is put into the script itself.
_WHAT = 'if [ -d "$1" ]; then echo folder; elif [ -e "$1" ] || [ -L "$1" ]; then echo file; else echo nothing; fi'


def copy_to_guest(run_dir: Path, source: Path, target: str, task: Task) -> None:
    """Copy `source`, a file or a whole folder, to `target` in the guest (relative: to root's home).

    :raises MachineError: there is no such file, no folder to put it in, or the guest refuses (a full disk).
    """
    if not os.path.lexists(source):
        raise MachineError(f"there is no {source} here", None, f"look: {show_folder(str(source.parent), '-la')}")
    place = _guest_place(target)
    folder, name = _landing(
        place, source.absolute().name or "root", _in_guest(run_dir, place), lambda path: _in_guest(run_dir, path)
    )
    with GuestPipe(run_dir, ["tar", "-x", "-p", "-f", "-", "-C", folder]) as pipe:
        writer = _Counted(pipe, task)
        with tarfile.open(fileobj=writer, mode="w|", format=tarfile.GNU_FORMAT) as tar:  # busybox' tar reads it
            tar.add(source, arcname=name, filter=_portable)
        pipe.finish()


def copy_from_guest(run_dir: Path, source: str, target: Path, task: Task) -> None:
    """Copy `source` of the guest, a file or a whole folder, to `target` here.

    Nothing lands outside of `target`, whatever the guest sends. No devices, no set-uid bits.

    :raises MachineError: there is no such file in the guest, or no folder here to put it in; a folder is in a file's
        place, or the other way round.
    """
    place = posixpath.normpath(_guest_place(source))
    if _in_guest(run_dir, place) == "nothing":
        raise MachineError(f"there is no {place} in the guest", None, f"look: hostvm shell -- ls -la {place}")
    base = posixpath.basename(place) or "root"
    folder, name = _landing(str(target), base, _here(str(target)), _here, here=True)
    argv = ["tar", "-c", "-f", "-", "-C", posixpath.dirname(place), "--", base]
    with GuestPipe(run_dir, argv) as pipe:
        with tarfile.open(fileobj=_Counted(pipe, task), mode="r|") as tar:
            for member in tar:
                member.name = _renamed(member.name, base, name)
                if member.islnk():
                    member.linkname = _renamed(member.linkname, base, name)
                _unpack(tar, member, folder)
        pipe.finish()


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return  # a device or a pipe is nothing that travels
    try:
        unpack_member(tar, member, folder, mode=member.mode & 0o777)
    except (OutsideError, OccupiedError) as fault:
        way = f"look what is there: {show_folder(folder, '-la')}"
        raise MachineError("the copy was broken off", str(fault), way) from None


def _landing(target: str, base: str, kind: str, look: Callable[[str], str], *, here: bool = False) -> tuple[str, str]:
    """The folder that things are unpacked in, and the name they get there."""
    path = os.path if here else posixpath
    if kind == "folder":
        return target, base
    parent = path.dirname(target.rstrip("/")) or ("." if here else "/")
    if target.endswith("/") or look(parent) != "folder":
        missing = target if target.endswith("/") else parent
        make = f"mkdir -p {missing}" if here else f"hostvm shell -- mkdir -p {missing}"
        where = "here" if here else "in the guest"
        raise MachineError(f"there is no folder {missing} {where}", None, f"make it: {make}")
    return parent, path.basename(target)


def _renamed(member: str, base: str, name: str) -> str:
    return name + member[len(base) :] if member == base or member.startswith(f"{base}/") else member


def _guest_place(path: str) -> str:
    """Absolute; a trailing slash stays, since it says "a folder"."""
    return path if path.startswith("/") else posixpath.join(GUEST_HOME, path)


def _in_guest(run_dir: Path, path: str) -> str:
    done = run_in_guest(run_dir, ["sh", "-c", _WHAT, "sh", path], timeout=_SECONDS)
    return done.stdout.decode().strip() or "nothing"


def _here(path: str) -> str:
    return "folder" if os.path.isdir(path) else "file" if os.path.lexists(path) else "nothing"  # noqa: PTH112


def _portable(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Everything belongs to root in the guest, as what root copies does; sockets and devices stay here."""
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


class _Counted(io.RawIOBase):
    """A pipe as tarfile wants it, which tells how far it is."""

    def __init__(self, pipe: GuestPipe, task: Task) -> None:
        super().__init__()
        self._pipe = pipe
        self._task = task

    def write(self, data: ReadableBuffer, /) -> int:
        piece = bytes(data)
        self._task.advance(len(piece))
        return self._pipe.write(piece)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._pipe.read(len(view))
        view[: len(data)] = data
        self._task.advance(len(data))
        return len(data)
