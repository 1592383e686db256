"""Make a machine: all of it, or nothing."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hostvm.disks import create_disk
from hostvm.drivers.registry import pick_driver
from hostvm.errors import MachineError
from hostvm.files import move, private_folder, write_atomic
from hostvm.guest_images import require_engine
from hostvm.machines.drafts import draft_of, sweep_drafts
from hostvm.machines.identity import free_port, mac_of, new_uuid
from hostvm.paths import KEYS, MachinePaths
from hostvm.spec import render_spec
from hostvm.ssh.keys import make_keys
from hostvm.state import MachineState, save_state

if TYPE_CHECKING:
    from hostvm.spec import MachineSpec
    from images.store import Image


def create_machine(paths: MachinePaths, spec: MachineSpec, image: Image) -> MachineState:
    """Make the machine's folder with its keys, disk, settings and state; the machine's lock must be held.

    Everything is made in a folder beside and renamed into place as the last step, so that a machine exists whole
    or not at all.

    :raises MachineError: it exists already.
    :raises ImageError: the image is another engine's.
    :raises DriverError: no hypervisor is to be had.
    """
    if paths.folder.exists():
        raise MachineError(f"machine {paths.name} exists already", None, f"start it with: hostvm start {paths.name}")
    require_engine(image, spec.engine, rootless=spec.rootless)
    paths.check_socket_length()
    kind = pick_driver(spec.driver, spec.libvirt_uri)
    private_folder(paths.folder.parent)
    sweep_drafts(paths)
    draft = MachinePaths(paths.name, draft_of(paths.folder), paths.run_dir)
    with ExitStack() as undo:
        private_folder(draft.folder)
        undo.callback(shutil.rmtree, draft.folder, ignore_errors=True)
        make_keys(private_folder(draft.folder / KEYS))
        create_disk(draft.data_disk, spec.disk)
        write_atomic(draft.spec, render_spec(spec).encode())
        identity = new_uuid()
        state = MachineState(
            uuid=identity,
            mac=mac_of(identity),
            arch=image.arch,
            ssh_port=free_port(),
            driver=kind,
            image=f"sha256:{image.digest}",
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        save_state(draft, state)
        move(draft.folder, paths.folder)
        undo.pop_all()
    return state
