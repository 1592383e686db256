"""Another machine out of one that is off: the same settings and data, an identity of its own, no copying."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm.disks import create_overlay
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError
from hostvm.files import move, private_folder, write_atomic
from hostvm.machines.drafts import draft_of, sweep_drafts
from hostvm.machines.identity import free_port, mac_of, new_uuid
from hostvm.machines.layers import freeze_disks, layers_lock
from hostvm.machines.open import machine_driver
from hostvm.paths import KEYS, MachinePaths, machine_names
from hostvm.spec import load_spec
from hostvm.ssh.keys import make_keys
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    from hostvm.state import MachineState


def clone_machine(source: MachinePaths, target: MachinePaths) -> MachineState:
    """Make `target` with what `source` holds now; the locks of both must be held. Gives the new machine's state.

    Nothing is copied: the disk of the source becomes a layer that both stand on. From a suspended machine the clone
    gets the disk, not the memory; it begins as after a power cut right after everything was written.

    :raises MachineError: the source runs, or there is a machine of the other name.
    :raises HostvmError: the source is damaged, or the host's disk is full; nothing was made.
    """
    require_free(target)
    target.check_socket_length()
    state, spec = load_state(source), load_spec(source.spec)
    power = machine_driver(source, state, spec).state()
    if power is not DomainState.OFF:
        raise MachineError(
            f"machine {source.name} is {power.value}",
            "its disk is being written to",
            f"stop or suspend it first: hostvm suspend {source.name}",
        )
    return build_machine(target, source, state)


def require_free(target: MachinePaths) -> None:
    """:raises MachineError: there is a machine of this name."""
    if target.folder.exists():
        raise MachineError(
            f"machine {target.name} exists already", None, f"choose another name, or remove it: hostvm rm {target.name}"
        )


def build_machine(target: MachinePaths, source: MachinePaths, state: MachineState) -> MachineState:
    """A machine on the disks and with the settings of `source`, which is off; the locks of both must be held.

    :param state: of the source, whose driver and image the machine keeps.
    """
    sweep_drafts(source, target)
    draft = MachinePaths(target.name, draft_of(target.folder), target.run_dir)
    with layers_lock() as folder, ExitStack() as undo:
        private_folder(draft.folder)
        undo.callback(shutil.rmtree, draft.folder, ignore_errors=True)
        make_keys(private_folder(draft.folder / KEYS))
        write_atomic(draft.spec, source.spec.read_bytes())
        identity = new_uuid()
        made = replace(
            state,
            uuid=identity,
            mac=mac_of(identity),
            ssh_port=free_port(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            wanted_off=True,
            parent=state.uuid,
            owner=None,  # of an ephemeral machine it is what stays
        )
        save_state(draft, made)
        for disk, layer in freeze_disks(source, folder).items():
            create_overlay(draft.folder / disk, folder / layer)
        move(draft.folder, target.folder)
        undo.pop_all()
    return made


def children(machine_uuid: str) -> list[str]:
    """Names of the machines that were cloned from this one and still exist."""
    found = []
    for name in machine_names():
        try:
            if machine_uuid and load_state(MachinePaths.of(name)).parent == machine_uuid:
                found.append(name)
        except HostvmError:
            continue  # a damaged machine names no parent
    return found
