"""Snapshots of a machine: a layer of its disk and, of one that ran, its memory at the same moment.

`machines/NAME/snapshots/SNAPSHOT/` holds the record and the memory; the disk is a layer that the machine goes on
standing on. To restore, the machine gets another overlay on it, and the memory as if it had just been suspended.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from hostvm import paths as places
from hostvm.agent.client import end_agent
from hostvm.agent.spawn import end_sleeper, take_back
from hostvm.disks import create_overlay
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError, SpecError
from hostvm.facts import faults
from hostvm.files import move, private_folder, write_atomic
from hostvm.machines.domain import domain_of, same_domain
from hostvm.machines.drafts import draft_of, sweep_drafts
from hostvm.machines.layers import collect_layers, delete_folder, freeze_disks, layers_lock, link
from hostvm.machines.open import machine_driver, require_disks_unused
from hostvm.machines.saved import Saved, drop_saved, load_saved, saved_faults, stamped, store_saved
from hostvm.machines.stalled import unstalled
from hostvm.machines.suspend import suspend_machine
from hostvm.machines.wake import wake_machine, why_not_loaded
from hostvm.platform.words import free_room
from hostvm.sizes import MIB, human_size
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state
from images.store import images_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from images.progress import Progress

VERSION = 2

_ROOM = MIB
"""Bytes that are to be free for each disk that is made on a layer, and for the records. An empty one takes 200 KiB."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `snapshot.json` holds.

    :param created: when, UTC.
    :param layers: file name of each of its disks -> that of its layer.
    :param image: digest of the guest image that the machine had.
    :param saved: as in `suspended.json`; None of a machine that was off.
    :param number: higher than of those that were there when it was made: `created` does not tell which is newer where
        this computer's clock was set back. 0 in records of version 1.
    """

    name: str
    created: str
    layers: dict[str, str]
    image: str
    saved: dict[str, Any] | None = None
    number: int = 0
    version: int = VERSION

    @property
    def memory(self) -> int:
        """Bytes of its saved memory; 0 without."""
        return int(self.saved["ram"]["size"]) if self.saved else 0

    def facts(self) -> dict[str, Any]:
        """For `snapshot ls --json`."""
        return {"name": self.name, "created": self.created, "memory": self.memory, "image": self.image}


def create_snapshot(
    paths: MachinePaths, name: str, progress: Progress, container_name: Callable[[str], str]
) -> Snapshot:
    """Keep the machine as it is now; its lock must be held.

    One that runs is suspended for it and goes on at once, so it stands still for some seconds and its connections to
    elsewhere are cut; what cannot be suspended is refused as `suspend_machine` does. It is what it was, whatever fails.

    :raises MachineError: there is a snapshot of this name, or the machine is paused or stands still for want of room.
    :raises HostvmError: it cannot be suspended, or the host's disk is full.
    """
    target = snapshot_folder(paths, name)
    if target.exists():
        raise MachineError(
            f"machine {paths.name} has a snapshot {name} already",
            None,
            f"choose another name, or remove it: hostvm snapshot rm -m {paths.name} {name}",
        )
    power = unstalled(paths, machine_driver(paths, load_state(paths), load_spec(paths.spec)))
    if power not in (DomainState.OFF, DomainState.RUNNING):
        raise MachineError(f"machine {paths.name} is {power.value}", None, f"let it go on: hostvm start {paths.name}")
    try:
        if power is DomainState.RUNNING:
            suspend_machine(paths, progress, container_name)
        return _record(paths, name, target)
    finally:
        if power is DomainState.RUNNING:
            resume(paths, progress)


def _record(paths: MachinePaths, name: str, target: Path) -> Snapshot:
    private_folder(target.parent)
    sweep_drafts(paths)
    draft = draft_of(target)
    try:
        private_folder(draft)
        saved = None
        if paths.suspended.exists():
            saved = asdict(load_saved(paths))
            link(paths.suspended_ram, draft / places.SUSPENDED_RAM)
        with layers_lock() as folder:
            disks, image = freeze_disks(paths, folder), load_state(paths).image
            number = 1 + max((one.number for one in list_snapshots(paths)), default=0)
            made = Snapshot(name, _now(), disks, image, saved, number)
            write_atomic(draft / places.SNAPSHOT_JSON, json.dumps(asdict(made), indent=1).encode())
            move(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return made


def restore_snapshot(paths: MachinePaths, name: str, progress: Progress, *, disk_only: bool = False) -> bool:
    """Make the machine what it was then; what it is now is lost. Its lock must be held.

    True when it runs again, ready; False when it was off then, and so is now. Killed in the midst of it, it leaves a
    stopped machine with disks of before or of then; the same command again puts that right. A further disk that was
    made since stays as it is.

    :param disk_only: without its memory, as after a power cut.
    :raises MachineError: there is no such snapshot, it cannot be used, another process has the machine's disk open, or
        this computer's disk is full; nothing was changed.
    :raises HostvmError: it cannot be resumed; then it is suspended, as it was in the snapshot.
    """
    found = load_snapshot(paths, name)
    if disk_only:
        found = replace(found, saved=None)
    state, spec = load_state(paths), load_spec(paths.spec)
    check_snapshot(paths, found, state.image)
    driver = machine_driver(paths, state, spec)
    if driver.state() is DomainState.OFF:
        require_disks_unused(paths)
    if found.saved is not None:
        _check_memory(paths, found.name, Saved(**found.saved), driver, progress)
    _require_room(paths, found)
    with progress.step(f"restore {paths.name}"):
        end_agent(paths.run_dir)
        driver.kill()
        drop_saved(paths)
        save_state(paths, replace(state, wanted_off=True))
        sweep_drafts(paths)
        put_disk_and_memory(paths, found, snapshot_folder(paths, name))
    if found.saved is None:
        end_sleeper(paths.run_dir)
        return False
    resume(paths, progress)
    return True


def _require_room(paths: MachinePaths, found: Snapshot) -> None:
    """Before the machine is given up for it: what is made then takes little, but some.

    :raises MachineError: this computer's disk is full.
    """
    free = shutil.disk_usage(paths.folder).free
    if free < _ROOM * (1 + len(found.layers)):
        raise MachineError(
            f"machine {paths.name} cannot go back to snapshot {found.name}: this computer's disk is full",
            f"{human_size(free)} are free in {paths.folder}; the machine is as it was",
            f"free some space: {free_room(str(paths.folder))}\nthen run the same command again",
        )


def _check_memory(paths: MachinePaths, name: str, saved: Saved, driver: Driver, progress: Progress) -> None:
    """Before the machine is given up for it.

    :raises MachineError: the hypervisor that is here cannot load it, as another version than wrote it.
    """
    try:
        domain = same_domain(paths, load_state(paths), domain_of(saved.domain), progress)
        why = why_not_loaded(driver, domain, saved)
    except (OSError, KeyError, TypeError, ValueError) as fault:
        why = f"{fault!r}"
    if why:
        without = f"its disks alone: hostvm start {paths.name} --from-snapshot {name} --discard-state\n"
        raise _unusable(paths, name, why, without)


def put_disk_and_memory(paths: MachinePaths, found: Snapshot, source: Path) -> None:
    """Lay a snapshot into a machine that is off: afterwards it is stopped, or suspended. Its lock must be held."""
    with layers_lock() as folder:
        for disk, layer in found.layers.items():
            create_overlay(paths.folder / disk, folder / layer, replacing=True)
        collect_layers(folder)
    if found.saved is not None:
        link(source / places.SUSPENDED_RAM, paths.suspended_ram)
        store_saved(paths, stamped(Saved(**found.saved), paths.folder))


def resume(paths: MachinePaths, progress: Progress) -> None:
    """Let a machine go on that is suspended or paused now; nothing happens to one that runs.

    :raises HostvmError: as `wake_machine`.
    """
    if wake_machine(paths, machine_driver(paths, load_state(paths), load_spec(paths.spec)), progress):
        take_back(paths.run_dir)


def remove_snapshot(paths: MachinePaths, name: str) -> None:
    """Forget a snapshot; its lock must be held. Of its disk only what nothing else stands on is freed.

    :raises MachineError: there is none of this name.
    """
    folder = snapshot_folder(paths, name)
    if not folder.is_dir():
        raise _unknown(paths, name)
    sweep_drafts(paths)
    with layers_lock() as layers:
        delete_folder(layers, folder)


def snapshot_names(paths: MachinePaths) -> list[str]:
    """Names of the machine's snapshots, damaged ones too, sorted."""
    folder = paths.snapshots
    return sorted(one.name for one in folder.iterdir() if places.is_name(one.name)) if folder.is_dir() else []


def list_snapshots(paths: MachinePaths) -> list[Snapshot]:
    """The machine's snapshots, the oldest first; those that cannot be read are left out."""
    found = []
    for name in snapshot_names(paths):
        try:
            found.append(load_snapshot(paths, name))
        except HostvmError:
            continue
    return sorted(found, key=lambda one: (one.number, one.created))


def newest_snapshot(paths: MachinePaths) -> Snapshot:
    """The one made last.

    :raises MachineError: there is none.
    """
    found = list_snapshots(paths)
    if not found:
        raise MachineError(
            f"machine {paths.name} has no snapshot", None, f"make one: hostvm snapshot create -m {paths.name}"
        )
    return found[-1]


def load_snapshot(paths: MachinePaths, name: str) -> Snapshot:
    """Read a snapshot's record.

    :raises MachineError: there is none of this name, or it is damaged or a newer hostvm's.
    """
    record = snapshot_folder(paths, name) / places.SNAPSHOT_JSON
    if not record.parent.is_dir():
        raise _unknown(paths, name)
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        if int(data["version"]) > VERSION:
            raise _unusable(paths, name, f"it is of a newer hostvm: version {data['version']}")
        wrong = faults(data, Snapshot)
        if not wrong and data.get("saved") is not None:
            wrong = [f"saved.{fault}" for fault in saved_faults(data["saved"])]
        if wrong:
            told = "\n".join(f"{record}: {fault}" for fault in wrong)
            raise _unusable(paths, name, told, f"correct it in: {record}\n")
        return Snapshot(**data)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as fault:
        raise _unusable(paths, name, f"{record}: {fault!r}") from fault


def snapshot_folder(paths: MachinePaths, name: str) -> Path:
    """Where a snapshot of this name is, if there is one.

    :raises SpecError: no snapshot can have that name.
    """
    if not places.is_name(name):
        raise SpecError(
            f"'{name}' cannot be a snapshot's name",
            "a name has 1 to 24 lower-case letters, digits and inner hyphens",
            f"try, for example: hostvm snapshot create -m {paths.name} before-upgrade",
        )
    return paths.snapshots / name


def check_snapshot(paths: MachinePaths, found: Snapshot, image: str) -> None:
    """Whether all of it is there, and its memory belongs to the image that the machine has now.

    :raises MachineError: otherwise.
    """
    ram = snapshot_folder(paths, found.name) / places.SUSPENDED_RAM
    for layer in (places.layers() / name for name in found.layers.values()):
        if not layer.is_file():
            raise _unusable(paths, found.name, f"its disk is gone: {layer}")
    if found.saved is not None and (not ram.is_file() or ram.stat().st_size != found.memory):
        raise _unusable(paths, found.name, f"its memory is gone or damaged: {ram}")
    if found.saved is not None and found.image != image:
        digest = found.image.removeprefix("sha256:")
        stored = (images_folder(places.cache()) / digest).is_dir()
        raise _unusable(
            paths,
            found.name,
            f"its memory belongs to the guest image {found.image}; the machine has {image} now",
            f"give the machine that image, then restore: hostvm upgrade {paths.name} --image {digest[:12]}\n"
            if stored
            else "",
        )


def _unknown(paths: MachinePaths, name: str) -> MachineError:
    names = snapshot_names(paths)
    there = f"snapshots there: {', '.join(names)}" if names else "it has no snapshot yet"
    return MachineError(
        f"machine {paths.name} has no snapshot {name}",
        there,
        f"make one: hostvm snapshot create -m {paths.name} {name}",
    )


def _unusable(paths: MachinePaths, name: str, why: str, way: str = "") -> MachineError:
    """:param way: to use it all the same, a line."""
    return MachineError(
        f"snapshot {name} of machine {paths.name} cannot be used",
        why,
        f"{way}{'or ' if way else ''}remove it: hostvm snapshot rm -m {paths.name} {name}",
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
