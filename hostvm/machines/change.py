"""Change what is wanted of a machine that exists: what may change, when it counts, and the data disk's growth."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hostvm.agent.client import run_in_guest
from hostvm.disks import disk_size, grow_disk
from hostvm.drivers.base import DomainState
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.errors import HostvmError
from hostvm.files import rewrite, write_atomic
from hostvm.machines.open import machine_driver
from hostvm.platform.words import quoted
from hostvm.sizes import format_size
from hostvm.spec import SETTINGS, Effect, load_spec, render_spec, wrong_settings
from hostvm.state import load_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec

_GROW_SECONDS = 120.0
# The device's new size reaches the guest by an interrupt, some milliseconds after QEMU has it.
_GROW = """\
n=0
while [ "$(cat /sys/class/block/vdb/size)" -lt "$1" ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
exec /usr/sbin/resize2fs /dev/vdb
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    :param changed: keys whose values are others now.
    :param waiting: those of the running machine that count from its next start.
    :param notes: lines for people.
    """

    changed: tuple[str, ...]
    waiting: tuple[str, ...]
    notes: tuple[str, ...] = ()


def differing(one: MachineSpec, other: MachineSpec) -> tuple[str, ...]:
    """Keys whose values differ."""
    return tuple(setting.key for setting in SETTINGS if getattr(one, setting.key) != getattr(other, setting.key))


def check_change(
    before: MachineSpec, after: MachineSpec, *, disk: int, running: bool, suspended: bool = False, name: str = "NAME"
) -> None:
    """Whether an existing machine may become so.

    :param name: the machine's, for the commands that help.
    :param disk: bytes its data disk has now.
    :param suspended: its saved memory belongs to the data disk as it is.
    :raises SpecError: every setting that cannot change, or not now.
    """
    faults, helps = [], ["leave them as they are, or make another machine: hostvm create NEW"]
    changed = differing(before, after)
    for setting in SETTINGS:
        if setting.key in changed and setting.effect is Effect.MADE:
            there = setting.render(getattr(before, setting.key))
            faults.append(f"{setting.key}: is decided when a machine is made; this one has {there}")
    if "engine" in changed:
        helps.insert(0, other_engine(before.engine, after.engine, name))
    if "image" in changed:
        faults.append(f"image: changes by an upgrade, which may fail; this one has {before.image}")
        helps.insert(0, f"hostvm upgrade {name} --image {quoted(after.image)}")
    if after.disk < disk:
        faults.append(
            f"disk: {format_size(after.disk)} is less than the {format_size(disk)} it has; a disk cannot become smaller"
        )
    if suspended and after.disk > disk:
        faults.append("disk: cannot grow while the machine is suspended")
        helps.insert(0, f"let it go on, then try again: hostvm resume {name}")
    if running and "libvirt_uri" in changed:
        faults.append("libvirt_uri: cannot change while the machine runs")
        helps.insert(0, f"stop it, then try again: hostvm stop {name}")
    if faults:
        raise wrong_settings(faults, "of a machine that exists", "\n".join(helps))


def other_engine(engine: str, wanted: str, name: str = "NAME") -> str:
    """How one comes from an engine to another: the machine `name` keeps the one it was made with."""
    out = "ctr images export - IMAGE" if engine in WITHOUT_DOCKER_API else "docker save IMAGE"
    back = "ctr images import -" if wanted in WITHOUT_DOCKER_API else "docker load"
    return (
        f"make a machine with the other engine: hostvm start NEW --engine {wanted}\n"
        f"then bring images over: hostvm -m {name} {out} | hostvm -m NEW {back}"
    )


def apply_change(paths: MachinePaths, text: str, after: MachineSpec, before: MachineSpec | None) -> Outcome:
    """Write `text`, which says `after`, as machine.yaml; the machine's lock must be held.

    What counts at once takes effect; nothing is written when something may not change.

    :param before: None when machine.yaml could not be read.
    :raises SpecError: as `check_change`.
    :raises MachineError: the disk of a machine that is off cannot grow; nothing was changed.
    """
    state = load_state(paths)
    driver = machine_driver(paths, state, before or after)
    running, suspended = driver.state() is not DomainState.OFF, paths.suspended.exists()
    disk = disk_size(paths.data_disk)
    known = before or replace(after, disk=disk)
    check_change(known, after, disk=disk, running=running, suspended=suspended, name=paths.name)
    former = paths.spec.read_bytes()
    rewrite(paths.spec, text)
    notes: list[str] = []
    if after.disk > disk:
        try:
            notes.append(_grow(paths, driver, after.disk, running=running))
        except HostvmError:
            with suppress(OSError):  # then it grows at the next start
                rewrite(paths.spec, former.decode("utf-8", "surrogateescape"))
            raise
    changed = differing(before, after) if before else tuple(setting.key for setting in SETTINGS)
    return Outcome(changed, pending(paths, after) if running or suspended else (), tuple(notes))


def _grow(paths: MachinePaths, driver: Driver, size: int, *, running: bool) -> str:
    told = f"the data disk has {format_size(size)} now"
    if not running:
        grow_disk(paths.data_disk, size)
        return f"{told}; its file system grows at the next start"
    try:
        driver.grow_disk(size)
        done = run_in_guest(paths.run_dir, ["sh", "-c", _GROW, "grow", str(size // 512)], timeout=_GROW_SECONDS)
    except HostvmError as fault:
        return f"the data disk grows at the next start, since the running machine refuses: {fault.brief}"
    if done.status != 0:
        why = done.stderr.decode(errors="replace").strip()
        return f"{told}; its file system grows at the next start, since resize2fs failed: {why}"
    return f"{told}, and so has its file system"


def note_booted(paths: MachinePaths, spec: MachineSpec) -> None:
    """Keep what the running machine was started with."""
    write_atomic(paths.booted_spec, render_spec(spec).encode())


def booted_spec(paths: MachinePaths) -> MachineSpec | None:
    """What the machine was started with last; None when that is not known."""
    with suppress(HostvmError):
        return load_spec(paths.booted_spec)
    return None


def pending(paths: MachinePaths, wanted: MachineSpec) -> tuple[str, ...]:
    """Keys in which a running machine differs from what is wanted, until its next start."""
    booted = booted_spec(paths)
    if booted is None:
        return ()
    late = {setting.key for setting in SETTINGS if setting.effect is Effect.START}
    return tuple(key for key in differing(booted, wanted) if key in late)


def keys_in_words(keys: Sequence[str]) -> str:
    """`cpus and memory`, `cpus, memory and disk`."""
    return " and ".join(part for part in (", ".join(keys[:-1]), keys[-1]) if part)
