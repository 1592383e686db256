"""The machine that ephemeral ones begin from: booted once for each image, hypervisor and set of settings, then kept.

It is no machine of the user's: its folder is `machines/.warm-…`, which nothing lists. Its name tells what it is of.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm import paths as places
from hostvm.agent.spawn import end_sleeper
from hostvm.errors import HostvmError
from hostvm.guest_images import ensure_image
from hostvm.locks import LOCK_TIMEOUT, machine_lock
from hostvm.machines.agents import START_SECONDS
from hostvm.machines.boot import start_machine
from hostvm.machines.create import create_machine
from hostvm.machines.remove import remove_machine
from hostvm.machines.saved import drop_saved
from hostvm.machines.snapshots import create_snapshot, snapshot_folder
from hostvm.machines.suspend import suspend_machine
from hostvm.paths import MachinePaths
from hostvm.provision import SECONDS_MOST
from hostvm.qemu_binary import complete_qemu
from hostvm.sizes import GIB
from hostvm.spec import default_spec, render_spec
from hostvm.state import load_state

if TYPE_CHECKING:
    from hostvm.machines.boot import BootEngine
    from hostvm.spec import MachineSpec
    from images.progress import Progress

VERSION = 1
MAKING = 2
"""How it is made. 2: those that begin from it draw random numbers of their own, see `DomainSpec.generation`."""
SNAPSHOT = "warm"
_PREFIX = "warm-"
_DIGITS = 8


def warm_spec() -> MachineSpec:
    """What an ephemeral machine is unless told otherwise: small, without folders of this computer, without names."""
    usual = default_spec()
    return replace(
        usual,
        cpus=min(2, usual.cpus),
        memory=min(2 * GIB, usual.memory),
        disk=20 * GIB,
        driver="qemu",
        mounts=(),
        names=0,
    )


def ensure_warm(spec: MachineSpec, engine: BootEngine, progress: Progress) -> MachinePaths:
    """The machine to begin from, whose snapshot is `SNAPSHOT`; made when it is missing, which takes a boot.

    One that was made of the same settings and another image or QEMU goes.

    :raises HostvmError: it cannot be made; nothing is left of it.
    """
    _sweep(progress)
    image = ensure_image(spec.image, progress, spec.arch)
    qemu = complete_qemu(image.arch, places.cache(), progress)
    settings = _digest(render_spec(spec))
    paths = warm_paths(f"{_PREFIX}{settings}-{_digest(image.digest, str(qemu.path), qemu.version_text, str(MAKING))}")
    if is_warm(paths):
        return paths
    # Whoever makes it boots a guest meanwhile: several workers of one test run wait for the one that does.
    with machine_lock(paths, LOCK_TIMEOUT + START_SECONDS + len(spec.provision) * SECONDS_MOST):
        if is_warm(paths):
            return paths  # another process made it meanwhile
        progress.note("the machine that ephemeral ones begin from is not there yet and is booted now, once")
        if paths.folder.exists():
            remove_machine(paths, progress, force=True)
        try:
            create_machine(paths, spec, image)
            start_machine(paths, progress, engine)
            suspend_machine(paths, progress, str)
            create_snapshot(paths, SNAPSHOT, progress, str)
            drop_saved(paths)
            end_sleeper(paths.run_dir)  # nobody is to wake it
        except BaseException:
            if paths.folder.exists():
                remove_machine(paths, progress, force=True)
            raise
    for folder in paths.folder.parent.glob(f".{_PREFIX}{settings}-????????"):
        if folder != paths.folder:
            with suppress(HostvmError, OSError):  # another hostvm makes it, or it cannot be deleted: ours is there
                discard_warm(warm_paths(folder.name[1:]), progress, wait=0.0)
    return paths


def _sweep(progress: Progress) -> None:
    """Remove those whose maker was killed, of any settings: they may run, and nothing lists them."""
    for folder in (places.home() / "machines").glob(f".{_PREFIX}{'?' * _DIGITS}-{'?' * _DIGITS}"):
        paths = warm_paths(folder.name[1:])
        if is_warm(paths):
            continue
        with suppress(HostvmError, OSError), machine_lock(paths, 0.0):  # whoever makes one holds it
            if paths.folder.exists() and not is_warm(paths):
                remove_machine(paths, progress, force=True)


def discard_warm(
    paths: MachinePaths, progress: Progress, only: str | None = None, *, wait: float = LOCK_TIMEOUT
) -> None:
    """Remove it; machines that began from it stay.

    :param only: the `identity` of what is to go; another process may have made it anew meanwhile.
    :param wait: seconds that somebody else may still hold it.
    :raises HostvmError: somebody does, or it cannot be removed.
    """
    with machine_lock(paths, wait):
        if paths.folder.exists() and only in (None, identity(paths)):
            remove_machine(paths, progress, force=True)


def identity(paths: MachinePaths) -> str:
    """Which one it is, made anew or not; "" of one that is damaged or missing."""
    try:
        return load_state(paths).uuid
    except HostvmError:
        return ""


def warm_paths(name: str) -> MachinePaths:
    """The places of one, whether it exists or not."""
    return MachinePaths(name, places.home() / "machines" / f".{name}", places.run() / name)


def is_warm(paths: MachinePaths) -> bool:
    """Whether it is complete."""
    return snapshot_folder(paths, SNAPSHOT).is_dir()


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()[:_DIGITS]
