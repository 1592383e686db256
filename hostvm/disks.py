"""The data disk of a machine: a qcow2 file that grows with what the guest writes and shrinks with what it frees."""

from __future__ import annotations

import json
import os
import shlex
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hostvm import paths as places
from hostvm import process
from hostvm.errors import HostvmError, MachineError
from hostvm.files import move
from hostvm.full_disk import explained
from hostvm.platform.words import free_room, in_turn, show_folder
from hostvm.qemu_binary import find_qemu_img
from hostvm.sizes import format_size, human_size

_LOCKED = (b'"write" lock', b"used by another process")
"""What qemu-img says of a disk that another process has open: on Linux, on Windows."""

UNFINISHED = ".new-disk-"
"""How folders are called in which disks are made, beside the place that they are for."""

_ENDING_SECONDS = 2.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """What qemu-img tells about a disk.

    :param size: bytes the guest sees.
    :param used: bytes it takes on the host.
    :param backing: the file it is based on, if any.
    """

    format: str
    size: int
    used: int
    backing: Path | None = None


def create_disk(path: Path, size: int) -> None:
    """Make an empty qcow2 of `size` bytes (0600); appears whole or not at all.

    :raises MachineError: there is already a file of that name, which is left as it is; or the host's disk is full.
    """
    if path.exists():
        raise _exists(path)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as folder:
        fresh = Path(folder, "disk.qcow2")
        _qemu_img("create", "-q", "-f", "qcow2", str(fresh), str(size), about=path)
        fresh.chmod(0o600)
        _publish(fresh, path)


def create_overlay(path: Path, base: Path, *, replacing: bool = False) -> None:
    """Make a qcow2 (0600) that holds nothing yet and shows `base` beneath; appears whole or not at all.

    `base` must never be written to again. It is named relative to where `path` really is, so that both may be moved
    together, and a folder of `path` may be a link to another drive.

    :param replacing: take the place of a disk of that name, at once.
    :raises MachineError: there is already a file of that name; `base` is missing; or the host's disk is full.
    """
    if path.exists() and not replacing:
        raise _exists(path)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as folder:
        # qemu-img reads a relative name from the new disk's own folder, which is one deeper until it is published.
        fresh = Path(folder, "disk.qcow2")
        named = os.path.relpath(_really(base.parent) / base.name, _really(path.parent))
        words = ("-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", named, str(fresh), str(disk_size(base)))
        _qemu_img("create", *words, about=path)
        fresh.chmod(0o600)
        if replacing:
            move(fresh, path)
        else:
            _publish(fresh, path)


def backing_of(path: Path) -> Path | None:
    """The disk that shows beneath this one, from its header; None for one that stands alone.

    :raises MachineError: it is missing or no qcow2 file.
    """
    disk_size(path)
    with path.open("rb") as file:
        place, length = struct.unpack(">QI", file.read(20)[8:])
        if not place:
            return None
        file.seek(place)
        named = os.fsdecode(file.read(length))
    return Path(os.path.normpath(_really(path.parent) / named))


def _really(folder: Path) -> Path:
    """Where `..` begins for QEMU: behind links, but for Windows, which reads names before it looks at the disk."""
    return folder if sys.platform == "win32" else Path(os.path.realpath(folder))


def holds_nothing(overlay: Path) -> bool:
    """Whether an overlay shows just what is beneath: its first table is empty, and it has that disk's size.

    :raises MachineError: it or what is beneath is missing or no qcow2 file.
    """
    base = backing_of(overlay)
    if base is None or disk_size(base) != disk_size(overlay):
        return False
    with overlay.open("rb") as file:
        entries, place = struct.unpack(">IQ", file.read(48)[36:])
        file.seek(place)
        return not any(file.read(entries * 8))


def require_unused(path: Path) -> None:
    """Make sure that no hypervisor has a machine's disk open, also one that this command cannot see.

    A machine is looked for in its run folder, which is another one where HOSTVM_RUN or XDG_RUNTIME_DIR differs. QEMU
    locks its disks on Linux, and Windows does. Where it cannot be told (macOS, no qemu-img, a disk that is damaged or
    missing) nothing is said. One that is about to end, as QEMU does when a guest powered itself off, is waited for.

    :raises MachineError: one has.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            argv = (str(find_qemu_img()), "info", "-f", "qcow2", str(path))
            result = process.run(argv, timeout=120, check=False)
        except HostvmError:
            return
        if not _is_locked(result):
            return
        if time.monotonic() >= deadline:
            raise _in_use(path, result)
        time.sleep(_PAUSE)


def _is_locked(result: process.Result) -> bool:
    return result.status != 0 and any(words in result.stderr for words in _LOCKED)


def _in_use(path: Path, result: process.Result) -> MachineError:
    return MachineError(
        f"the disk of machine {path.parent.name} is in use by another process",
        f"{result.stderr.decode('utf-8', 'replace').strip()}\n"
        f"the machine may run under another HOSTVM_RUN or XDG_RUNTIME_DIR; here its run folder is in {places.run()}",
        f"find the process: fuser -v {shlex.quote(str(path))}\n"
        "if that is QEMU, the folder above that of its -pidfile (ps -o args -p PID) is it: export HOSTVM_RUN=FOLDER",
    )


def grow_disk(path: Path, size: int) -> None:
    """Make a stopped machine's disk larger; does nothing when it has that size already.

    :raises MachineError: it would become smaller (which would cut off data), or it is in use.
    """
    if growth(path, size):
        _qemu_img("resize", "-q", "-f", "qcow2", str(path), str(size), about=path)


def growth(path: Path, size: int) -> int:
    """Bytes by which the disk is to grow.

    :raises MachineError: it would become smaller, or is no disk.
    """
    there = disk_size(path)
    if size < there:
        raise MachineError(
            f"the disk {path} cannot become smaller",
            f"it has {human_size(there)}, {human_size(size)} were asked for; a smaller one would lose what lies behind",
            f"write its real size into machine.yaml: disk: {format_size(there)}\n"
            "or make a smaller machine and move what it holds: hostvm create NAME --disk SIZE",
        )
    return size - there


def disk_size(path: Path) -> int:
    """Bytes the guest sees, from the disk's header: quick, and right also while a guest has it open.

    :raises MachineError: it is missing or no qcow2 file.
    """
    try:
        with path.open("rb") as file:
            magic, size = struct.unpack(">4s20xQ", file.read(32))
    except (OSError, struct.error) as error:
        magic, size, why = b"", 0, str(error)
    else:
        why = "it does not begin as one"
    if magic != b"QFI\xfb":
        raise MachineError(
            f"the disk {path} is missing, damaged or not a qcow2 file",
            why,
            f"look at the folder: {show_folder(str(path.parent))}",
        )
    return int(size)


def disk_info(path: Path) -> DiskInfo:
    """Look at a disk, in use or not.

    :raises MachineError: it is missing or damaged.
    """
    # -U: also while a guest has it open, whose lock would refuse us.
    told = json.loads(_qemu_img("info", "-U", "-f", "qcow2", "--output=json", str(path), about=path))
    backing = told.get("full-backing-filename")
    return DiskInfo(told["format"], told["virtual-size"], told["actual-size"], Path(backing) if backing else None)


def _qemu_img(verb: str, *words: str, about: Path) -> bytes:
    argv = (str(find_qemu_img()), verb, *words)
    try:
        return process.run(argv, timeout=120).stdout
    except HostvmError as error:
        # What is being made is gone when this is read.
        folder = about.parent.parent if about.parent.name.startswith(".") else about.parent
        look = "Look at the folder and at what is free there: " + in_turn(
            show_folder(str(folder)), free_room(str(folder)), between="; "
        )
        details, way = explained(error.details, folder) or (error.details, look)
        raise MachineError(
            f"cannot {verb} the disk {about}"
            if verb != "info"
            else f"the disk {about} is missing, damaged or not a qcow2 file",
            details,
            way,
        ) from error


def _publish(fresh: Path, path: Path) -> None:
    """Give it its name without ever replacing a file."""
    try:
        os.link(fresh, path)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:
        # A file system without hard links (exFAT): the machine's lock is what is left against a race.
        fresh.rename(path)


def _exists(path: Path) -> MachineError:
    return MachineError(
        f"there is already a disk at {path}", "it is never overwritten", f"Look what it is: qemu-img info -U {path}"
    )


def check_disk(path: Path, *, in_use: bool = False) -> int:
    """Look for damage in a disk's tables; gives the number of leaked clusters, which waste room and nothing else.

    :param in_use: a guest has it open: then only its header is looked at, and 0 given.
    :raises MachineError: it is missing, no qcow2 file, its tables are damaged, or another process has it open.
        Nothing is repaired.
    """
    if in_use:
        disk_info(path)
        return 0
    argv = (str(find_qemu_img()), "check", "-f", "qcow2", "--output=json", str(path))
    result = process.run(argv, timeout=600, check=False)
    if _is_locked(result):
        raise _in_use(path, result)
    try:
        told = json.loads(result.stdout)
    except ValueError:
        told = None
    if told is None or told.get("corruptions") or told.get("check-errors"):
        raise MachineError(
            f"the disk {path} is damaged",
            process.failure(result).details if told is None else f"{told.get('corruptions', 0)} damaged clusters",
            f"keep a copy, then repair it: cp {path} {path}.copy; qemu-img check -r all {path}",
        )
    return int(told.get("leaks", 0))
