"""Bring a suspended or paused machine back: everything in it goes on where it was."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm.agent import config as settings
from hostvm.agent.client import end_agent, wait_ready
from hostvm.agent.spawn import may_appear, spawn_agent
from hostvm.drivers.base import DomainState
from hostvm.errors import AgentError, DriverError, DriverTimeout, HostvmError, MachineError, PortTaken
from hostvm.files import remove_for_good
from hostvm.machines.agents import START_SECONDS, agent_config
from hostvm.machines.change import booted_spec
from hostvm.machines.domain import domain_of, same_domain, store_domain
from hostvm.machines.identity import free_port, port_is_free
from hostvm.machines.image_check import require_image_of_memory
from hostvm.machines.saved import check_digest, check_disk_is, digest_or_why, drop_saved, load_saved, unusable
from hostvm.machines.stalled import let_go_on
from hostvm.shares.choose import store_devices
from hostvm.shares.model import Mount
from hostvm.shares.sources import why_not
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    from hostvm.drivers.base import DomainSpec, Driver
    from hostvm.machines.saved import Saved
    from hostvm.paths import MachinePaths
    from hostvm.state import MachineState
    from images.progress import Progress

_PORT_TRIES = 5


def wake_machine(paths: MachinePaths, driver: Driver, progress: Progress) -> bool:
    """Resume a suspended machine, or let a paused one run on; False when it is neither. Its lock must be held.

    Returns when the machine is ready, as a start does. When resuming fails before the guest runs, the machine is
    still suspended; afterwards it is left running.

    :raises MachineError: its saved state cannot be used, or it stands still for want of room; nothing was changed.
    :raises HostvmError: it runs, but is not ready in time.
    """
    power = driver.state()
    if power is DomainState.STALLED:
        let_go_on(paths, driver)
        power = DomainState.RUNNING
    saved = paths.suspended.exists()
    if power is DomainState.RUNNING:
        if saved:
            drop_saved(paths)  # somebody let it run past its state
        return False
    if power is DomainState.PAUSED and not saved:
        drop_saved(paths)  # half of a state, of a command that was killed
        if not driver.features.remote and port_is_free(load_state(paths).ssh_port):
            # Half of a start: libvirt or the command was killed before a way led into the guest. Nothing ran in it.
            driver.kill()
            return False
        with progress.step(f"resume {paths.name}"):
            _unpause(paths, driver)
            wait_awake(paths, progress)
        return True
    if not saved:
        return False
    driver.kill()  # of a command that was killed before the guest ran
    with progress.step(f"resume {paths.name}"):
        _resume(paths, driver, load_saved(paths), progress)
        # Takes a tenth of a second, which the guest uses to answer.
        remover = threading.Thread(target=_remove_memory, args=(paths,), name="remove")
        remover.start()
        try:
            wait_awake(paths, progress)
        finally:
            remover.join()
    return True


def _remove_memory(paths: MachinePaths) -> None:
    """What cannot be removed is worth nothing without its record, and removed by the next command."""
    with suppress(OSError):
        paths.suspended_ram.unlink(missing_ok=True)


def wait_awake(paths: MachinePaths, progress: Progress) -> None:
    """Wait until the machine is ready again; what the user wants is that it runs.

    :raises HostvmError: it is not in time.
    """
    wait_ready(paths.run_dir, time.monotonic() + START_SECONDS, progress)
    save_state(paths, replace(load_state(paths), wanted_off=False))


def _unpause(paths: MachinePaths, driver: Driver) -> None:
    try:
        known = settings.load(paths.run_dir)
    except AgentError:
        known = None
    driver.unpause()
    end_agent(paths.run_dir)
    engine_socket, env = (known.engine_socket, known.env) if known else ("", {})
    spawn_agent(agent_config(paths, load_spec(paths.spec), load_state(paths), engine_socket, env, woken=True))


def _resume(paths: MachinePaths, driver: Driver, saved: Saved, progress: Progress) -> None:
    state = load_state(paths)
    require_image_of_memory(paths, state.image)
    domain = _checked_domain(paths, state, driver, saved, progress)
    paths.check_socket_length()
    paths.make_run_dir()
    store_devices(domain.shares, paths.run_dir, saved.share_server)
    store_domain(domain, paths.domain)
    for _ in range(_PORT_TRIES):
        if not port_is_free(state.ssh_port):
            taken, state = state.ssh_port, replace(state, ssh_port=free_port())
            save_state(paths, state)
            progress.note(f"port {taken} is taken by another program; machine {paths.name} now has {state.ssh_port}")
        config = agent_config(paths, load_spec(paths.spec), state, saved.engine_socket, saved.env, woken=True)
        with ExitStack() as undo:
            end_agent(paths.run_dir)
            undo.callback(end_agent, paths.run_dir)
            spawn_agent(config)  # it loads its libraries meanwhile
            try:
                _restore(paths, driver, replace(domain, ssh_port=state.ssh_port), saved)
            except PortTaken:
                continue
            undo.pop_all()
        if not may_appear(paths.run_dir):
            # The one that waited too long has left. Beside one that is still loading, a second would wait for its
            # place, and begin when the machine is to be suspended again.
            spawn_agent(config)
        return
    raise DriverError(
        f"machine {paths.name} finds no free port for ssh",
        f"{_PORT_TRIES} ports were taken between choice and use",
        f"try again: hostvm start {paths.name}",
    )


def _restore(paths: MachinePaths, driver: Driver, domain: DomainSpec, saved: Saved) -> None:
    """Load the state while it is checked; the guest runs only when both went well."""
    found: list[str] = []
    checker = threading.Thread(
        target=lambda: found.append(digest_or_why(paths.suspended_ram, saved)), name="digest", daemon=True
    )
    checker.start()

    def consume() -> None:
        checker.join()
        check_digest(paths, saved, *found)
        check_disk_is(paths, saved)
        remove_for_good(paths.suspended)

    try:
        driver.restore(domain, paths.suspended_ram, saved.hypervisor, consume)
    except (PortTaken, MachineError, DriverTimeout):
        raise
    except HostvmError as error:
        checker.join()
        check_digest(paths, saved, *found)
        raise unusable(paths, "\n".join(word for word in (error.brief, error.details) if word)) from error


def _check_sources(paths: MachinePaths, domain: DomainSpec) -> None:
    """The hypervisor opens the folders of devices by their paths, whatever machine.yaml says by now.

    :raises MachineError: a container may have put a link there.
    """
    if not domain.shares:
        return
    devices = [Mount(str(share.source), share.target, share.readonly) for share in domain.shares]
    booted = booted_spec(paths)
    known = [*(booted.mounts if booted else ()), *load_spec(paths.spec).mounts, *devices]
    named = {(mount.source, mount.target): mount.leads_to for mount in known if mount.leads_to}
    for device in devices:
        mount = replace(device, leads_to=named.get((device.source, device.target), ""))
        if why := why_not(mount, known):
            raise unusable(paths, f"{mount.source} cannot be shared: {why}")


def _checked_domain(
    paths: MachinePaths, state: MachineState, driver: Driver, saved: Saved, progress: Progress
) -> DomainSpec:
    """What can be told before anything is started.

    :raises MachineError: the state cannot be used.
    """
    try:
        size = paths.suspended_ram.stat().st_size
        domain = same_domain(paths, state, domain_of(saved.domain), progress)
        why = why_not_loaded(driver, domain, saved)
    except DriverTimeout:
        raise
    except (OSError, KeyError, TypeError, HostvmError) as fault:
        raise unusable(paths, str(fault)) from fault
    if size != saved.ram["size"]:
        raise unusable(paths, f"{paths.suspended_ram} has {size} bytes; {saved.ram['size']} were written")
    check_disk_is(paths, saved)
    _check_sources(paths, domain)
    if why:
        raise unusable(paths, why)
    return domain


def why_not_loaded(driver: Driver, domain: DomainSpec, saved: Saved) -> str:
    """Why the hypervisor that is here cannot load that state; "" if it can. Starts nothing.

    :raises DriverError: there is no hypervisor.
    """
    if (here := driver.hypervisor(domain)) != saved.hypervisor:
        return f"its memory is {saved.hypervisor}'s, here is {here}"
    if (board := driver.board(domain)) != saved.board:
        now, then = set(board) - set(saved.board), set(saved.board) - set(board)
        return f"its virtual hardware would be another one: now {' '.join(sorted(now))}, then {' '.join(sorted(then))}"
    return ""
