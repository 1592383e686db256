"""A suspended machine on disk: `suspended.ram`, which its hypervisor wrote, and `suspended.json`, which binds it.

The state belongs to one moment of the data disk. It is refused for any other, and its record is gone before the
guest runs on, so that it is never loaded twice: docs/adr/0070-suspend-to-a-file.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hostvm.disks import backing_of, holds_nothing
from hostvm.errors import MachineError
from hostvm.facts import KINDS, Kinds, faults, is_table, is_text, is_whole
from hostvm.files import remove_for_good, write_atomic
from hostvm.paths import DATA_DISK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.paths import MachinePaths

VERSION = 2
"""2: the state's `sum`; 1 had a sha256 of it, which took longer than QEMU takes to load it."""

Ram = dict[str, Any]

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """What `suspended.json` holds.

    :param suspended: when, UTC.
    :param hypervisor: name and version of what wrote the state.
    :param board: the words of `Driver.board`.
    :param disk: `stamp` of the data disk.
    :param disks: `stamp` of each further disk, by the name of its file.
    :param ram: `size` in bytes and `digest` of the state, called `sum`; `sha256` in version 1.
    :param domain: what the machine was powered on with, see `hostvm.machines.domain`.
    :param engine_socket: of the machine's engine, in the guest.
    :param env: variables of programs in the guest.
    :param share_server: where the guest's mounts look for this computer's server; None without such mounts.
    """

    suspended: str
    hypervisor: str
    board: list[str]
    disk: list[int]
    ram: Ram
    domain: dict[str, Any]
    engine_socket: str
    env: dict[str, str] = field(default_factory=dict)
    share_server: dict[str, Any] | None = None
    disks: dict[str, list[int]] = field(default_factory=dict)
    version: int = VERSION


def _is_ram(value: Any) -> bool:
    return is_table(value) and is_whole(value.get("size")) and is_text(value.get("sum", value.get("sha256")))


_KINDS: Kinds = {**KINDS, "Ram": ("the size and the sum of a memory", _is_ram)}


def saved_faults(data: dict[str, Any]) -> list[str]:
    """What is wrong with a record: every key that is missing, or holds what it cannot."""
    return faults(data, Saved, _KINDS)


def load_saved(paths: MachinePaths) -> Saved:
    """Read suspended.json.

    :raises MachineError: it is damaged, or a newer hostvm's.
    """
    try:
        data = json.loads(paths.suspended.read_text(encoding="utf-8"))
        if int(data["version"]) > VERSION:
            raise unusable(paths, f"{paths.suspended} is of a newer hostvm: version {data['version']}")
        if wrong := saved_faults(data):
            raise unusable(paths, "\n".join(f"{paths.suspended}: {fault}" for fault in wrong))
        return Saved(**data)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as fault:
        raise unusable(paths, f"{paths.suspended}: {fault!r}") from fault


def store_saved(paths: MachinePaths, saved: Saved) -> None:
    """Write suspended.json: from here on the machine is suspended. Its lock must be held."""
    write_atomic(paths.suspended, json.dumps(asdict(saved), indent=1).encode())


def drop_saved(paths: MachinePaths) -> bool:
    """Make sure that no state is loaded any more; True when there was one. The machine's lock must be held."""
    there = paths.suspended.exists()
    if there:
        remove_for_good(paths.suspended)
    paths.suspended_ram.unlink(missing_ok=True)
    return there


def check_files(paths: MachinePaths, saved: Saved) -> None:
    """Look whether the state is whole and belongs to the disk as it is.

    :raises MachineError: it cannot be used.
    """
    check_disk_is(paths, saved)
    check_digest(paths, saved, digest_or_why(paths.suspended_ram, saved))


def check_disk_is(paths: MachinePaths, saved: Saved) -> None:
    """:raises MachineError: a disk is gone, or was written to since."""
    for name, then in {paths.data_disk.name: saved.disk, **saved.disks}.items():
        _check_disk_is(paths, saved, paths.folder / name, then)


def _check_disk_is(paths: MachinePaths, saved: Saved, disk: Path, then: list[int]) -> None:
    try:
        now = stamp(disk)
    except OSError as fault:
        raise unusable(paths, str(fault)) from fault
    if now != then and not _is_beneath(disk, then):
        raise unusable(
            paths,
            f"{disk} was changed after the machine was suspended at {saved.suspended}; "
            "with the memory of then its file system would be damaged",
        )


def _is_beneath(disk: Path, then: list[int]) -> bool:
    """Whether the disk of then is a layer now, and what stands on it is empty: its freezing was broken off."""
    try:
        layer = backing_of(disk)
        return layer is not None and stamp(layer) == then and holds_nothing(disk)
    except (MachineError, OSError, struct.error):
        return False


def check_digest(paths: MachinePaths, saved: Saved, found: str) -> None:
    """:raises MachineError: the state is not what was written."""
    if found != (saved.ram["sha256"] if _is_sha(saved) else saved.ram["sum"]):
        raise unusable(paths, f"{paths.suspended_ram} is damaged: its contents are not what was written")


def digest_or_why(path: Path, saved: Saved) -> str:
    """`digest` of the kind that was written down, or why there is none, which is no digest."""
    try:
        return digest(path, _whole if _is_sha(saved) else _checksum)
    except OSError as fault:
        return str(fault)


def _is_sha(saved: Saved) -> bool:
    return "sum" not in saved.ram


def stamp(disk: Path) -> list[int]:
    """What changes whenever a disk is written to: its size and the time of its last change (ns)."""
    found = disk.stat()
    return [found.st_size, found.st_mtime_ns]


def stamped(saved: Saved, folder: Path) -> Saved:
    """The same state, of the same content in new files of `folder`."""
    return replace(saved, disk=stamp(folder / DATA_DISK), disks={name: stamp(folder / name) for name in saved.disks})


def _checksum(block: bytearray) -> bytes:
    """Tells a damaged block from a sound one. It need not withstand people: who can write states can write disks."""
    return zlib.crc32(block).to_bytes(4, "little")


def _whole(block: bytearray) -> bytearray:
    return block


def digest(path: Path, fold: Callable[[bytearray], bytes | bytearray] = _checksum) -> str:
    """What a file's contents are known by; blocks of zeros, which a sparse file may or may not hold, do not count.

    The sha256 of all blocks, folded, and of their places.

    :raises OSError: it cannot be read.
    """
    whole = hashlib.sha256()
    zeros, room = bytes(_BLOCK), bytearray(_BLOCK)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        place = 0
        while (place := _next_data(file.fileno(), place, size)) < size:
            file.seek(place)
            count = file.readinto(room)
            block = room if count == _BLOCK else room[:count]
            if block != zeros[:count]:
                whole.update(place.to_bytes(8, "little"))
                whole.update(fold(block))
            place += _BLOCK
    whole.update(size.to_bytes(8, "little"))
    return whole.hexdigest()


def _next_data(descriptor: int, place: int, size: int) -> int:
    """The first block at or behind `place` that is no hole."""
    if place >= size or not hasattr(os, "SEEK_DATA"):
        return place
    try:
        return max(place, os.lseek(descriptor, place, os.SEEK_DATA) // _BLOCK * _BLOCK)
    except OSError as error:
        # ENXIO: nothing but a hole is left. Others: this file system cannot tell.
        return size if error.errno == errno.ENXIO else place


def unusable(paths: MachinePaths, why: str) -> MachineError:
    """The one error for a state that cannot be used."""
    return MachineError(
        f"machine {paths.name} cannot be resumed",
        why,
        f"start it without its saved memory, as after a power cut: hostvm start --discard-state {paths.name}",
    )
