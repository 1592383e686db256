"""Disks that several machines and snapshots have in common: `machines/.layers/ID.qcow2`, never written to again.

A machine's data disk becomes such a layer when something else is to begin from it, and the machine goes on in an
overlay of its own: docs/adr/0080-shared-layers.md. A layer lives as long as a disk or a snapshot stands on it.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hostvm import paths as places
from hostvm.disks import backing_of, create_overlay, holds_nothing, require_unused
from hostvm.errors import MachineError
from hostvm.files import flush, move, private_folder
from hostvm.locks import home_lock
from hostvm.machines.saved import check_disk_is, load_saved, stamped, store_saved
from hostvm.more_disks import more_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostvm.paths import MachinePaths

_LOCK_SECONDS = 120.0
_WHEN_BUSY = "look with: hostvm ls\nthen run the same command again"
_QCOW2 = "*.qcow2"

REMOVED = ".*.removed"
"""Names, as `glob` reads them, of folders that are being deleted."""


@contextmanager
def layers_lock() -> Iterator[Path]:
    """Hold what keeps layers from being collected between their birth and their first use; gives their folder.

    Whoever also needs a machine's lock takes that one first.

    :raises MachineError: somebody else still holds it after 120 s, or HOSTVM_HOME cannot be written.
    """
    lock = places.home() / "locks" / ".layers.lock"
    with home_lock(lock, _LOCK_SECONDS, "the folder of disks that machines share is busy", _WHEN_BUSY):
        yield private_folder(places.layers())


def freeze_disks(paths: MachinePaths, folder: Path) -> dict[str, str]:
    """Make layers of all disks of a machine that is off: file name of the disk -> that of its layer.

    :raises MachineError: as `freeze_disk`; the machine has all of its disks all the same.
    """
    return {disk.name: freeze_disk(paths, folder, disk).name for disk in (paths.data_disk, *more_files(paths.folder))}


def freeze_disk(paths: MachinePaths, folder: Path, disk: Path) -> Path:
    """Make a layer of a disk of a machine that is off, which goes on in an overlay; gives the layer.

    Both locks must be held. The disk gets a second name, then the first one becomes the overlay's: whenever this is
    killed, the machine has its disk. A suspended machine stays suspended, see `check_disk_is`.

    :param folder: of `layers_lock`.
    :raises MachineError: a suspended machine's disk was changed, another process has it open, or the host's disk is
        full; nothing was changed.
    """
    require_unused(disk)
    saved = load_saved(paths) if paths.suspended.exists() else None
    if saved is not None:
        check_disk_is(paths, saved)
    beneath = backing_of(disk)
    if beneath is not None and (folder / beneath.name).is_file() and holds_nothing(disk):
        return folder / beneath.name  # nothing was written since the last time
    layer = folder / f"{uuid.uuid4().hex}.qcow2"
    link(disk, layer)
    try:
        create_overlay(disk, layer, replacing=True)
    except BaseException:
        if _is_not_on(disk, layer):
            layer.unlink()
        raise
    if sys.platform != "win32":  # where that is a mark which keeps a file, and all its names, from being deleted
        layer.chmod(0o400)
    if saved is not None:
        store_saved(paths, stamped(saved, paths.folder))
    return layer


def _is_not_on(disk: Path, layer: Path) -> bool:
    """Whether the disk surely stands on something else. Once its overlay has its name, the layer is all of its data."""
    try:
        beneath = backing_of(disk)
    except (MachineError, OSError, struct.error):
        return False  # `collect_layers` frees it when nothing stands on it
    return beneath is None or beneath.name != layer.name


def link(source: Path, target: Path) -> None:
    """Give a file that nobody writes to another name; a copy of the same age where the file system has no such links.

    :raises OSError: it cannot be done; nothing lies at `target`.
    """
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copy2(source, target)  # a suspended machine knows its disk by the time of its last change
            target.chmod(0o600)
            flush(target)  # `source` may be about to go
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def sweep_removed(folder: Path) -> None:
    """Delete machines and snapshots whose removal was broken off. The lock of the layers must be held.

    They have a name that no command looks for, and whatever has one was to be deleted. Whoever removes holds the lock
    until all is gone, so nothing is deleted by two at once.
    """
    machines = folder.parent
    for rest in (*machines.glob(REMOVED), *machines.glob(f"*/{places.SNAPSHOTS}/{REMOVED}")):
        _delete(rest, ignore_errors=True)


def delete_folder(folder: Path, doomed: Path) -> None:
    """Delete the folder of a machine or a snapshot, and what it alone stood on. The lock of the layers must be held.

    It is renamed first, so that one that is killed leaves nothing half: `sweep_removed` deletes the rest.

    :param folder: of `layers_lock`.
    :raises OSError: it cannot be deleted.
    """
    sweep_removed(folder)
    rest = doomed.with_name(f".{doomed.name}.removed")
    move(doomed, rest)
    _delete(rest)
    collect_layers(folder)


def _delete(rest: Path, *, ignore_errors: bool = False) -> None:
    """A folder with all that it holds; one that is elsewhere goes before the link to it.

    :raises OSError: it cannot be deleted.
    """
    shutil.rmtree(rest.resolve(), ignore_errors=ignore_errors)
    if rest.is_symlink() and not rest.exists():
        rest.unlink()


def collect_layers(folder: Path) -> list[Path]:
    """Remove the layers that nothing stands on; gives them. The lock of the layers must be held.

    None is removed while any disk or record cannot be read: what that one stands on may be all of its data.
    """
    gone: list[Path] = []
    try:
        while unused := [layer for layer in sorted(folder.glob(_QCOW2)) if layer.name not in _used(folder)]:
            for layer in unused:
                _unlink(layer)
            gone += unused
    except _UnreadableError:
        pass  # the next one to come looks again
    return gone


def _unlink(layer: Path) -> None:
    try:
        layer.unlink()
    except PermissionError:
        layer.chmod(0o600)  # Windows deletes no file that is read-only
        layer.unlink()


def _used(folder: Path) -> set[str]:
    """What anything stands on: machines, those being made or removed, their snapshots, and other layers.

    Names, which are of one layer each: one path can be spelled in several ways, as with HOSTVM_HOME=../vms.

    :raises _UnreadableError: it cannot be told.
    """
    found: set[str] = set()
    try:
        for place in _places(folder.parent):
            for record in place.rglob(places.SNAPSHOT_JSON):
                found |= {str(layer) for layer in json.loads(record.read_bytes())["layers"].values()}
            for disk in place.rglob(_QCOW2):
                if beneath := backing_of(disk):
                    found.add(beneath.name)
    except (MachineError, OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _UnreadableError from fault
    return found


def _places(machines: Path) -> list[Path]:
    """Where disks are: machines whose folders were moved to another drive, and left a link here, which `rglob` passes.

    :raises OSError: such a drive is not there.
    """
    moved = [one for one in machines.iterdir() if one.is_symlink()]
    for one in moved:
        one.stat()
    return [machines, *(one for one in moved if one.is_dir())]


class _UnreadableError(Exception):
    pass
