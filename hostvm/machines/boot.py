"""Start a machine: power on and agent at once, then wait until the engine answers."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from hostvm.agent.client import agent_is_ready, agent_status, end_agent, run_in_guest, wait_ready
from hostvm.agent.config import guest_env, provisions
from hostvm.agent.spawn import spawn_agent, take_back
from hostvm.console import ended_in_panic, with_last_lines
from hostvm.disks import check_disk, grow_disk, growth
from hostvm.drivers.base import DomainState
from hostvm.drivers.consoles import rotate_console
from hostvm.emulate import AUTO, seed_emulators
from hostvm.errors import DriverError, HostvmError, MachineError, PortTaken
from hostvm.machines.agents import START_SECONDS, agent_config
from hostvm.machines.change import note_booted
from hostvm.machines.domain import make_domain
from hostvm.machines.drafts import clear_drafts
from hostvm.machines.halt import stop_machine
from hostvm.machines.identity import free_port, port_is_free
from hostvm.machines.image_check import begin_check, machine_image
from hostvm.machines.open import machine_driver
from hostvm.machines.saved import drop_saved
from hostvm.machines.stalled import why_still
from hostvm.machines.trial import is_broken_off, keep_proven, settle_trial
from hostvm.machines.wake import wake_machine
from hostvm.more_disks import check_disks, check_places, disk_table, prepare_disks
from hostvm.paths import cache
from hostvm.provision import SECONDS_MOST, seed_scripts
from hostvm.shares.client import missing_shares
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.drivers.base import Driver
    from hostvm.net.plan import NetworkPlan
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState
    from images.progress import Progress

_PORT_TRIES = 5
_LOOK_SECONDS = 10.0


class BootEngine(Protocol):
    """What a machine's engine must tell before it can be started."""

    @property
    def socket(self) -> str:
        """Path of its API's socket in the guest; "" when the machine has no engine."""

    def seed(self, spec: MachineSpec, plan: NetworkPlan) -> dict[str, bytes]:
        """Its settings as files of the guest's seed.

        :raises SpecError: settings that contradict each other.
        """


def start_machine(
    paths: MachinePaths, progress: Progress, engine: BootEngine, *, discard_state: bool = False
) -> float | None:
    """Power the machine on, or wake it, and wait until it is ready; the machine's lock must be held.

    Gives the seconds from the call until ready; None when it was ready already. A machine whose agent died gets a
    new one, one that is suspended or paused goes on. When a start from its power-on is interrupted, or fails before
    the guest can be reached, the machine is powered off again, its data and logs kept. A guest that can be reached
    stays on, so that somebody can look inside.

    :param discard_state: boot a suspended machine without its saved memory, as after a power cut.
    :raises HostvmError: no usable hypervisor, a damaged machine, or a readiness check that did not hold in time.
    """
    spec, state = load_spec(paths.spec), load_state(paths)
    driver = machine_driver(paths, state, spec)
    on_trial = is_broken_off(state)
    if on_trial and driver.state() is DomainState.RUNNING:
        try:
            return _start(paths, progress, engine, discard_state=discard_state)
        except HostvmError:
            if not settle_trial(paths, driver, progress, lambda: stop_machine(paths, progress, force=True)):
                raise
    elif on_trial:
        settle_trial(paths, driver, progress, lambda: stop_machine(paths, progress))
    return _start(paths, progress, engine, discard_state=discard_state)


def _start(paths: MachinePaths, progress: Progress, engine: BootEngine, *, discard_state: bool) -> float | None:
    began = time.monotonic()
    spec, state = load_spec(paths.spec), load_state(paths)
    driver = machine_driver(paths, state, spec)
    if agent_is_ready(paths.run_dir) and driver.state() is DomainState.RUNNING:
        _keep_on(paths, state, driver, progress)
        return None
    if discard_state:
        machine_image(paths, spec, state.image)  # without it nothing would start, and the memory be gone
        discard_saved(paths, driver)
    if wake_machine(paths, driver, progress):
        take_back(paths.run_dir)
        _see_shares(paths, progress)
        return time.monotonic() - began
    power = driver.state()
    if power is DomainState.CRASHED:
        driver.kill()
        power = DomainState.OFF
    if power is DomainState.OFF:
        drop_saved(paths)  # half of a state, of a command that was killed
    with ExitStack() as undo:
        if power is DomainState.OFF:
            undo.callback(_power_off, paths, driver)
            try:
                state = _power_on(paths, spec, state, driver, progress, engine)
                _wait(paths, spec, state, driver, progress, undo, starts=True)
            except HostvmError:
                # QEMU 7.2 itself crashes now and then while it emulates several processors: docs/limitations.md.
                if not driver.has_crashed():
                    raise
                progress.note(f"QEMU crashed; machine {paths.name} is started anew")
                _power_off(paths, driver)
                state = _power_on(paths, spec, load_state(paths), driver, progress, engine)
                _wait(paths, spec, state, driver, progress, undo, starts=True)
        else:
            if (agent_status(paths.run_dir) or {}).get("leaving"):
                end_agent(paths.run_dir)  # of a stop that was killed: it serves nobody any more
            env, scripts = guest_env(paths.run_dir), provisions(paths.run_dir)
            spawn_agent(agent_config(paths, spec, state, engine.socket, env, provision=scripts))
            _wait(paths, spec, state, driver, progress, undo, starts=False)
        save_state(paths, replace(state, wanted_off=False))
        undo.pop_all()
    keep_proven(paths, driver, progress)
    if power is DomainState.OFF and (spec.emulate != AUTO or (cache() / "emulators").is_dir()):
        from hostvm.emulators import start_emulators  # the archive's modules: not for every start

        start_emulators(paths, spec.emulate, state.arch, cache(), progress)
    take_back(paths.run_dir)
    _see_shares(paths, progress)
    return time.monotonic() - began


def _keep_on(paths: MachinePaths, state: MachineState, driver: Driver, progress: Progress) -> None:
    """What a start does with a machine that is ready already."""
    if state.wanted_off:  # of a stop that was killed; the guest may still go down, and is to be started again then
        save_state(paths, replace(state, wanted_off=False))
    keep_proven(paths, driver, progress)
    take_back(paths.run_dir)
    _see_shares(paths, progress)


def _wait(
    paths: MachinePaths,
    spec: MachineSpec,
    state: MachineState,
    driver: Driver,
    progress: Progress,
    undo: ExitStack,
    *,
    starts: bool,
) -> None:
    """Until the machine is ready; one that is not, but can be reached, is left on.

    :param starts: from its power-on.
    """
    with progress.step(f"start {paths.name}"):
        try:
            seconds = START_SECONDS + len(spec.provision) * SECONDS_MOST
            wait_ready(paths.run_dir, time.monotonic() + seconds, progress)
        except HostvmError as fault:
            if (why := why_still(paths, driver, starts=starts)) is not None:
                raise why from fault
            if not is_reachable(paths.run_dir):
                raise
            undo.pop_all()
            save_state(paths, replace(state, wanted_off=False))
            raise _stays_on(paths, fault) from fault


def _see_shares(paths: MachinePaths, progress: Progress) -> None:
    """Folders that are not in the guest are tried once more; one that cannot be shared is told, and is no failure."""
    with suppress(HostvmError):
        for row in missing_shares(paths.run_dir):
            progress.note(f"{row['source']} is not shared with the machine: {row['why'] or row['state']}")


def is_reachable(run_dir: Path) -> bool:
    """Whether programs can be run in the guest, ready or not."""
    try:
        return run_in_guest(run_dir, ["true"], timeout=_LOOK_SECONDS).status == 0
    except HostvmError:
        return False


def _stays_on(paths: MachinePaths, fault: HostvmError) -> HostvmError:
    ways = [
        *([fault.resolution] if fault.resolution else []),
        f"the machine stays on; look inside: hostvm shell {paths.name}",
        f"then try again: hostvm restart {paths.name}   # or power it off: hostvm stop {paths.name}",
    ]
    return type(fault)(fault.brief, fault.details, "\n".join(ways))


def _power_on(
    paths: MachinePaths, spec: MachineSpec, state: MachineState, driver: Driver, progress: Progress, engine: BootEngine
) -> MachineState:
    from hostvm.net.plan import plan_network  # TLS: not for a machine that is woken

    plan = plan_network(spec, os.environ)
    files = {**plan.seed(), **engine.seed(spec, plan), **seed_scripts(spec.provision)}
    files |= seed_emulators(spec.emulate, state.arch)
    env = {**plan.proxies, **spec.env}
    for note in plan.notes:
        progress.note(note)
    is_sound = begin_check(paths, spec, machine_image(paths, spec, state.image))
    driver.kill()  # clears run-time files of a machine that died with its host
    grow_disk(paths.data_disk, spec.disk)
    if spec.disks:
        state = _prepare_disks(paths, spec, state)
        files["disks"] = disk_table(spec.disks)
    end_agent(paths.run_dir)
    clear_drafts(paths)
    paths.paused_why.unlink(missing_ok=True)
    paths.check_socket_length()
    paths.make_run_dir()
    if state.subnet != str(plan.network.subnet):
        state = replace(state, subnet=str(plan.network.subnet))
        save_state(paths, state)
    try:
        able = driver.features
        domain = make_domain(paths, spec, state, files, progress, remote=able.remote, saves_state=able.saves_state)
    except HostvmError:
        is_sound()  # a kernel that is damaged may be why no accelerator works: this has the better words
        raise
    is_sound()
    rotate_console(paths.console)  # before the agent looks: the last boot's marks are not this one's
    note_booted(paths, spec)  # the same: it shares what this boot was to have
    for _ in range(_PORT_TRIES):
        if not port_is_free(state.ssh_port):
            taken, state = state.ssh_port, replace(state, ssh_port=free_port())
            save_state(paths, state)
            progress.note(f"port {taken} is taken by another program; machine {paths.name} now has {state.ssh_port}")
        # The agent starts first: it loads its libraries while the guest boots.
        spawn_agent(agent_config(paths, spec, state, engine.socket, env, provision=bool(spec.provision)))
        try:
            driver.start(replace(domain, ssh_port=state.ssh_port))
        except PortTaken:
            end_agent(paths.run_dir)
            continue
        except DriverError:
            for disk in (domain.data_disk, *(one.path for one in domain.disks)):
                check_disk(disk)  # if that is why, it has the better words
            raise
        return state
    raise DriverError(
        f"machine {paths.name} finds no free port for ssh",
        f"{_PORT_TRIES} ports were taken between choice and use",
        f"try again: hostvm start {paths.name}",
    )


def _prepare_disks(paths: MachinePaths, spec: MachineSpec, state: MachineState) -> MachineState:
    check_places(spec.disks, spec.mounts)
    check_disks(paths.folder, spec.disks, state.disks)
    prepare_disks(paths.folder, spec.disks)
    made = sorted({*state.disks, *(one.name for one in spec.disks)})
    if made != state.disks:
        state = replace(state, disks=made)
        save_state(paths, state)
    return state


def discard_saved(paths: MachinePaths, driver: Driver) -> bool:
    """Make a suspended machine a stopped one, as if its power had been cut then; False when it is not suspended."""
    if not paths.suspended.exists() or driver.state() is DomainState.RUNNING:
        return False
    driver.kill()
    return drop_saved(paths)


def _power_off(paths: MachinePaths, driver: Driver) -> None:
    end_agent(paths.run_dir)
    driver.kill()


def check_startable(paths: MachinePaths, spec: MachineSpec, engine: BootEngine) -> None:
    """Look at settings, proxies, certificates, scripts and the disk's size as a start would.

    :raises HostvmError: a start would refuse them.
    """
    from hostvm.net.plan import plan_network

    engine.seed(spec, plan_network(spec, os.environ))
    seed_scripts(spec.provision)
    check_places(spec.disks, spec.mounts)
    check_disks(paths.folder, spec.disks, load_state(paths).disks)
    growth(paths.data_disk, spec.disk)


def require_startable(paths: MachinePaths) -> None:
    """Whether a forwarded command may start this machine by itself.

    :raises MachineError: the user stopped it, never started it, or switched `autostart` off; or its kernel panicked,
        with `on_panic: stop`.
    """
    state, spec = load_state(paths), load_spec(paths.spec)
    if state.wanted_off or not spec.autostart:
        raise MachineError(
            f"machine {paths.name} is stopped",
            None if state.wanted_off else "its autostart is off",
            f"start it with: hostvm start {paths.name}",
        )
    if spec.on_panic == "stop" and (said := ended_in_panic(paths.console)):
        way = f"start it with: hostvm start {paths.name}"
        error = MachineError(f"machine {paths.name} is stopped", f"its kernel panicked: {said}", way)
        raise with_last_lines(error, paths.console)
