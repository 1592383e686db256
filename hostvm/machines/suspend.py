"""Suspend a machine: its memory and devices go to a file, its hypervisor ends. Or pause it in place.

The rule for what cannot be saved is in docs/adr/0070-suspend-to-a-file.md: it is refused, with what is in the way
and the commands that help; nothing falls back by itself, since a paused machine still takes its memory and does not
outlive the computer's next start. An idle machine, about which nobody can be asked, is paused:
docs/adr/0095-what-cannot-be-suspended-is-paused.md.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hostvm.agent.client import agent_is_ready, end_agent, request, run_in_guest
from hostvm.agent.config import load as load_config
from hostvm.agent.spawn import end_sleeper, spawn_agent, take_back
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError
from hostvm.files import write_atomic
from hostvm.machines.asleep import hand_over
from hostvm.machines.domain import domain_of
from hostvm.machines.open import machine_driver
from hostvm.machines.saved import Saved, digest, drop_saved, stamp, store_saved
from hostvm.machines.stalled import ROOM, unstalled, why_still
from hostvm.machines.trial import keep_proven
from hostvm.machines.wake import wait_awake
from hostvm.platform.words import free_room
from hostvm.shares.choose import load_server
from hostvm.shares.client import SERVICE as SHARES
from hostvm.shares.client import missing_shares
from hostvm.sizes import human_size
from hostvm.spec import load_spec
from hostvm.state import load_state
from images.progress import NullProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.config import AgentConfig
    from hostvm.drivers.base import DomainSpec, Driver
    from hostvm.paths import MachinePaths
    from images.progress import Progress


class UnsavableError(MachineError):
    """Something that cannot be saved is in use, or saving cannot be done at all; a while later that is no other."""


_SYNC_SECONDS = 60.0
_LOOK_EVERY = 1.0


def suspend_machine(
    paths: MachinePaths, progress: Progress, container_name: Callable[[str], str], *, after: float | None = None
) -> float | None:
    """Save the machine's memory and end its hypervisor; the machine's lock must be held.

    Gives the seconds that it took; None when it was suspended already. When it fails the machine runs on, unless its
    hypervisor ended: then it is stopped, as after a power cut, and no state is left. Broken off when its memory was
    saved whole, it is suspended.

    Docker clients wake it, see `hand_over`.

    :param container_name: the name of a container, by its id.
    :param after: only when it has been idle for so many seconds.
    :raises InUseError: it has not.
    :raises UnsavableError: something that cannot be saved is in use; the details say what.
    :raises MachineError: it does not run, or this computer's disk has no room, or it stands still for that.
    :raises HostvmError: the hypervisor fails.
    """
    began = time.monotonic()
    state = load_state(paths)
    driver = machine_driver(paths, state, load_spec(paths.spec))
    power = unstalled(paths, driver)
    if paths.suspended.exists() and power is DomainState.OFF:
        return None
    _require_running(paths, power)
    keep_proven(paths, driver, progress)
    if not driver.features.saves_state or driver.features.remote:
        raise _cannot(paths, f"driver {driver.features.name} saves no state on this computer")
    domain = _domain(paths)
    if held := [str(share.source) for share in domain.shares if share.kind == "virtiofs"]:
        raise _cannot(paths, f"shared by virtiofs, whose daemon has state of its own: {', '.join(held)}")
    with progress.step(f"suspend {paths.name}"):
        drop_saved(paths)
        _require_room(paths)
        try:
            _release(paths, driver, container_name, progress)
            _save(paths, driver, domain, progress, after)
        except BaseException as fault:
            _share_again(paths, driver)
            if isinstance(fault, HostvmError) and (why := why_still(paths, driver)) is not None:
                raise why from fault
            raise
    return time.monotonic() - began


def pause_machine(paths: MachinePaths, *, after: float | None = None, why: str = "") -> bool:
    """Halt the machine in place: it uses no processor, and keeps its memory. False when it is halted already.

    :param after: as of `suspend_machine`.
    :param why: in place of being suspended; `status` tells it while the machine is paused.
    :raises HostvmError: it does not run.
    """
    driver = machine_driver(paths, load_state(paths), load_spec(paths.spec))
    power = unstalled(paths, driver)
    if power is DomainState.PAUSED:
        return False
    _require_running(paths, power)
    keep_proven(paths, driver, NullProgress())  # halted, it could not be told any more
    config = load_config(paths.run_dir)
    try:
        hand_over(paths, after)  # with an agent, commands would wait for a guest that does not answer
        if why:
            write_atomic(paths.paused_why, why.encode())
        else:
            paths.paused_why.unlink(missing_ok=True)
        driver.pause()
    except BaseException:
        if driver.state() is DomainState.RUNNING:
            _bring_agent_back(paths, config, NullProgress())
        raise
    return True


def _save(paths: MachinePaths, driver: Driver, domain: DomainSpec, progress: Progress, after: float | None) -> None:
    config, server = load_config(paths.run_dir), load_server(paths.run_dir)

    def commit(hypervisor: str) -> None:
        store_saved(
            paths,
            Saved(
                suspended=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                hypervisor=hypervisor,
                board=driver.board(domain),
                disk=stamp(paths.data_disk),
                disks={disk.path.name: stamp(disk.path) for disk in domain.disks},
                ram={"size": paths.suspended_ram.stat().st_size, "sum": digest(paths.suspended_ram)},
                domain=json.loads(paths.domain.read_text(encoding="utf-8")),
                engine_socket=config.engine_socket,
                env=config.env,
                share_server=server,
            ),
        )

    try:
        hand_over(paths, after)
        driver.save(paths.suspended_ram, commit)
    except BaseException:
        if driver.state() in (DomainState.RUNNING, DomainState.STALLED):
            drop_saved(paths)
            _bring_agent_back(paths, config, progress)
        elif not (paths.suspended.exists() and paths.suspended_ram.exists()):
            drop_saved(paths)
            end_sleeper(paths.run_dir)
        raise  # with both, it is suspended, and its memory is nowhere else


def _bring_agent_back(paths: MachinePaths, config: AgentConfig, progress: Progress) -> None:
    """Of a machine that runs on after all. One that still serves, because `hand_over` itself failed, is left alone."""
    if not agent_is_ready(paths.run_dir):
        end_agent(paths.run_dir)  # it may be about to end
        spawn_agent(config)
        try:
            wait_awake(paths, progress)
        except BaseException:  # it stands still, say: its agent listens all the same
            with suppress(HostvmError):
                take_back(paths.run_dir)
            raise
    take_back(paths.run_dir)


def _sync(paths: MachinePaths, driver: Driver) -> None:
    """What the guest holds in memory goes to its disk.

    :raises MachineError: it stands still meanwhile, since this computer's disk is full; the guest would never be done.
    :raises HostvmError: it takes too long.
    """
    faults: list[Exception] = []

    def sync() -> None:
        try:
            run_in_guest(paths.run_dir, ["sync"], timeout=_SYNC_SECONDS)
        except Exception as fault:  # noqa: BLE001 - carried to the main thread
            faults.append(fault)

    worker = threading.Thread(target=sync, name="sync", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(_LOOK_EVERY)
        if worker.is_alive() and (why := why_still(paths, driver)) is not None:
            raise why
    if faults:
        raise faults[0]


def _release(paths: MachinePaths, driver: Driver, container_name: Callable[[str], str], progress: Progress) -> None:
    """Whatever was written is on the data disk, and no 9p folder is mounted, which would keep QEMU from saving."""
    _sync(paths, driver)
    answer = request(paths.run_dir, SHARES, do="release", timeout=_SYNC_SECONDS)
    holders = answer.get("holders", [])
    if not holders:
        # sshfs lets no file outlive its connection, which ends with the agent.
        for path in answer.get("written", []):
            progress.note(f"{path} is being written in a container, which has to open it anew when the machine goes on")
        return
    lines, containers = [], []
    for holder in holders:
        if holder["container"]:
            name = container_name(holder["container"])
            containers.append(name)
            lines.append(f"container {name} has it")
        else:
            lines.append(f"program {holder['program']} ({holder['pid']} in the guest) has it")
    stop = f"hostvm -m {paths.name} docker stop {' '.join(dict.fromkeys(containers))}\n" if containers else ""
    raise _cannot(paths, "a folder shared by 9p is in use: " + "; ".join(dict.fromkeys(lines)), stop)


def _require_room(paths: MachinePaths) -> None:
    """:raises MachineError: this computer's disk is full: the guest's last writes would halt it, nothing be saved."""
    for folder in (paths.data_disk.resolve().parent, paths.suspended_ram.parent):
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            continue  # of a drive that is gone its writes tell
        if free < ROOM:
            why = f"this computer's disk is full: {human_size(free)} are free in {folder}"
            raise _cannot(paths, why, f"{free_room(str(folder))}   # free some\n", MachineError)


def _share_again(paths: MachinePaths, driver: Driver) -> None:
    """What `_release` unmounted of a machine that runs on, with the same agent: containers would have it empty."""
    with suppress(HostvmError):
        if driver.state() is DomainState.RUNNING:
            missing_shares(paths.run_dir)


def _domain(paths: MachinePaths) -> DomainSpec:
    try:
        facts: dict[str, Any] = json.loads(paths.domain.read_text(encoding="utf-8"))
        return domain_of(facts)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UnsavableError(
            f"machine {paths.name} cannot be suspended yet",
            f"it was started by another version of hostvm ({fault!r})",
            f"start it anew: hostvm restart {paths.name}",
        ) from fault


def _require_running(paths: MachinePaths, power: DomainState) -> None:
    if power is DomainState.RUNNING and agent_is_ready(paths.run_dir):
        return
    word = "not ready" if power is DomainState.RUNNING else power.value
    raise MachineError(f"machine {paths.name} is {word}", None, f"start it: hostvm start {paths.name}")


def _cannot(paths: MachinePaths, why: str, first: str = "", kind: type[MachineError] = UnsavableError) -> MachineError:
    others = f"hostvm suspend --pause {paths.name}   # keeps its memory\nhostvm stop {paths.name}"
    again = f"{first}hostvm suspend {paths.name}\nor, instead:\n" if first else ""
    return kind(f"machine {paths.name} cannot be suspended as it is", why, again + others)
