"""Machines that begin from a snapshot with memory, ready within seconds, and go with the process that wanted them.

The snapshot's guest goes on in several machines at once, so they have its ssh keys, host name and engine id in common;
id, port and sockets are each one's own. docs/adr/0081-ephemeral-machines.md.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm import process_id
from hostvm.console import MARKS
from hostvm.disks import create_overlay
from hostvm.errors import HostvmError, MachineError
from hostvm.files import move, private_folder, write_atomic
from hostvm.locks import machine_lock
from hostvm.machines.domain import domain_facts, domain_of
from hostvm.machines.drafts import draft_of
from hostvm.machines.identity import free_port, new_uuid
from hostvm.machines.layers import collect_layers, layers_lock, link, sweep_removed
from hostvm.machines.open import machine_driver
from hostvm.machines.remove import remove_machine
from hostvm.machines.saved import Saved, stamped, store_saved, unusable
from hostvm.machines.snapshots import check_snapshot, load_snapshot, resume, snapshot_folder
from hostvm.paths import CLIENT_KEY, HOST_KEY, KEYS, SUSPENDED_RAM, MachinePaths, home, machine_names
from hostvm.process_id import ProcessId
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state
from images.ages import age_of
from images.progress import NullProgress

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.machines.snapshots import Snapshot
    from hostvm.state import MachineState
    from images.progress import Progress

PREFIX = "tmp-"
_DIGITS = 12
_STALE_SECONDS = 600.0


def start_ephemeral(source: MachinePaths, snapshot: str, progress: Progress) -> MachinePaths:
    """Make a machine of a snapshot and let it go on, ready; it is removed when this process ends, however it does.

    :raises MachineError: there is no such snapshot, it has no memory, is of the libvirt driver, or goes meanwhile.
    :raises HostvmError: it cannot be resumed; nothing is left.
    """
    sweep()
    found, state = load_snapshot(source, snapshot), load_state(source)
    check_snapshot(source, found, state.image)
    if found.saved is None or state.driver != "qemu":
        why = "it has no memory: the machine was off" if found.saved is None else "libvirt resumes only its own domain"
        raise MachineError(
            f"no machine can go on from snapshot {snapshot} of machine {source.name}",
            why,
            f"take one of a running machine with the driver qemu: hostvm snapshot create -m {source.name}",
        )
    target = MachinePaths.of(f"{PREFIX}{uuid.uuid4().hex[:_DIGITS]}")
    target.check_socket_length()
    with machine_lock(target), ExitStack() as undo:
        undo.callback(_drop_lock, target)
        undo.callback(_remove_rest, target)
        try:
            _make(target, source, found, state)
        except FileNotFoundError as fault:  # its lock is not held
            raise MachineError(
                f"machine {source.name} was removed meanwhile, or is damaged", str(fault), "run the same command again"
            ) from fault
        resume(target, progress)
        undo.pop_all()
    return target


def remove_ephemeral(target: MachinePaths, progress: Progress) -> None:
    """Cut its power and delete it. Idempotent."""
    with machine_lock(target):
        if target.folder.is_dir():
            remove_machine(target, progress, force=True)
    _drop_lock(target)


def _drop_lock(target: MachinePaths) -> None:
    """Nobody waits for a name that is never used again. On Windows a lock that is held stays: `sweep` takes it."""
    with suppress(OSError):
        target.lock.unlink(missing_ok=True)


def sweep() -> None:
    """Remove what owners left whose machine's agent was killed as well, whole or half made or half removed."""
    for name in machine_names():
        if not name.startswith(PREFIX):
            continue
        with suppress(HostvmError, OSError):  # one that cannot be deleted is in nobody's way
            paths = MachinePaths.of(name)
            owner = load_state(paths).owner
            if owner and not process_id.is_alive(ProcessId.of(owner)):
                remove_ephemeral(paths, NullProgress())
    own = PREFIX + "[0-9a-f]" * _DIGITS
    if any((home() / "machines").glob(f".{own}.removed")):
        with layers_lock() as folder:
            sweep_removed(folder)
            collect_layers(folder)
    for rest in (*(home() / "machines").glob(f".{own}.new"), *(home() / "locks").glob(f"{own}.lock")):
        with suppress(OSError):
            there = MachinePaths.of(rest.stem.lstrip(".")).folder.exists()
            if there or not _is_left(rest):
                continue
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink()


def _is_left(rest: Path) -> bool:
    """Whether who made it is gone; what does not tell is left when it is old."""
    name = rest.stem.lstrip(".")
    try:
        owner = load_state(MachinePaths(name, rest, MachinePaths.of(name).run_dir)).owner
    except HostvmError:
        owner = None
    if owner:
        return not process_id.is_alive(ProcessId.of(owner))
    return age_of(rest) >= _STALE_SECONDS


def _make(target: MachinePaths, source: MachinePaths, found: Snapshot, state: MachineState) -> None:
    """A suspended machine, whole or not at all."""
    assert found.saved is not None
    draft = MachinePaths(target.name, draft_of(target.folder), target.run_dir)
    me = process_id.identify(os.getpid()) or ProcessId(os.getpid(), 0.0)
    made = replace(
        state,
        uuid=new_uuid(),
        ssh_port=free_port(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        parent="",
        owner=me.facts(),
    )
    with ExitStack() as undo:
        private_folder(draft.folder)
        undo.callback(shutil.rmtree, draft.folder, ignore_errors=True)
        private_folder(draft.keys)
        for key in (CLIENT_KEY, HOST_KEY):
            write_atomic(draft.folder / KEYS / key, (source.keys / key).read_bytes())
        write_atomic(draft.spec, source.spec.read_bytes())
        save_state(draft, made)
        # What a boot says on the console was said before this one existed, and is waited for.
        draft.console.write_bytes(b"".join(mark + b"\n" for mark in (b"goes on from a snapshot", *MARKS)))
        link(source.initramfs, draft.initramfs)  # QEMU reads it, and the guest never does
        link(snapshot_folder(source, found.name) / SUSPENDED_RAM, draft.suspended_ram)
        with layers_lock() as folder:
            for disk, layer in found.layers.items():
                create_overlay(draft.folder / disk, folder / layer)
        store_saved(draft, _saved(target, draft, source, Saved(**found.saved), made))
        move(draft.folder, target.folder)
        undo.pop_all()


def _saved(target: MachinePaths, draft: MachinePaths, source: MachinePaths, saved: Saved, made: MachineState) -> Saved:
    """The source's state as that of the new machine: the same hardware under another name and id."""
    there = domain_of(saved.domain)
    driver = machine_driver(target, made, load_spec(draft.spec))
    if driver.board(there) != saved.board:
        raise unusable(source, "its virtual hardware would be another one")
    domain = replace(there, name=target.name, uuid=made.uuid)
    fresh = stamped(saved, draft.folder)
    return replace(fresh, board=driver.board(domain), domain=domain_facts(domain), share_server=None)


def _remove_rest(target: MachinePaths) -> None:
    if target.folder.is_dir():
        remove_machine(target, NullProgress(), force=True)
