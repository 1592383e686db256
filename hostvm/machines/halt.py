"""Power a machine off: through the guest, then ACPI, then by cutting the power, each with a deadline."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm.agent.client import agent_is_ready, end_agent, run_in_guest, wait_ready
from hostvm.agent.config import load as load_config
from hostvm.agent.spawn import end_sleeper, spawn_agent
from hostvm.console import WayDown
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError
from hostvm.machines.open import machine_driver, require_disks_unused, spec_or_none
from hostvm.machines.saved import drop_saved
from hostvm.machines.stalled import no_room
from hostvm.machines.trial import keep_proven
from hostvm.machines.wake import wake_machine
from hostvm.shares.choose import load_server
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    from hostvm.drivers.base import Driver
    from hostvm.errors import MachineError
    from hostvm.paths import MachinePaths
    from images.progress import Progress

# Until the guest says that it stops, and again from when its engine has stopped to its end.
GUEST_SECONDS = 25.0
ACPI_SECONDS = 15.0
# Containers have their own stop times; the guest itself ends them after 5 minutes (images/files/*/.../engine-stop).
ENGINE_SECONDS = 360.0
AGENT_SECONDS = 10.0
_LOOK_EVERY = 1.0
POWEROFF = ("hostvm-poweroff",)


def stop_machine(
    paths: MachinePaths, progress: Progress, *, force: bool = False, asleep: bool = False, for_good: bool = False
) -> bool:
    """Stop the machine and its agent; True when it was running. The machine's lock must be held. Idempotent.

    With `force` the power is cut at once; the guest's file system is journalled and repairs itself at boot. One that
    is suspended or paused goes on first, so that its containers end in order; with `force` its memory is dropped.

    :param asleep: nobody wants it off: the next command starts it, as does a docker client where a sleeper listens.
    :param for_good: its user wants it off, also when it goes down only later: this call failed, or was broken off.
    :raises DriverError: it cannot be stopped even by cutting the power.
    :raises MachineError: its saved state cannot be used, and `force` was not given; or it seems to be off and another
        process has its disk open: it was started with another HOSTVM_RUN; or it stands still on its way down, since
        this computer's disk is full, and goes on with that when there is room.
    """
    driver = machine_driver(paths, load_state(paths), spec_or_none(paths) if force else load_spec(paths.spec))
    keep_proven(paths, driver, progress)
    if not force:
        wake_machine(paths, driver, progress)
    is_off = driver.state() is DomainState.OFF
    if is_off:
        require_disks_unused(paths)
    was_on = not is_off or paths.suspended.exists()
    if was_on and not force:
        with progress.step(f"stop {paths.name}"):
            if not is_off:
                _serve_shares(paths, progress)
                if for_good:
                    save_state(paths, replace(load_state(paths), wanted_off=True))
            _ask(paths, driver, progress)
    driver.kill()  # clears what a stopped domain leaves behind, too
    end_agent(paths.run_dir)
    drop_saved(paths)
    if not asleep:
        end_sleeper(paths.run_dir)
    save_state(paths, replace(load_state(paths), wanted_off=not asleep))
    return was_on


def _serve_shares(paths: MachinePaths, progress: Progress) -> None:
    """Bring back an agent that died: what containers wrote to this computer's folders meanwhile waits in the guest."""
    with suppress(HostvmError, OSError):
        if load_server(paths.run_dir) is not None and not agent_is_ready(paths.run_dir):
            spawn_agent(replace(load_config(paths.run_dir), woken=True, provision=False))
            wait_ready(paths.run_dir, time.monotonic() + AGENT_SECONDS, progress)


class _Descent:
    """Waits for a machine to be off, and longer while its guest says that containers end.

    `stuck`: why the machine stands still on its way, None when it does not; then nothing more is to be waited for.
    """

    def __init__(self, paths: MachinePaths, driver: Driver, progress: Progress) -> None:
        self.stuck: MachineError | None = None
        self._paths = paths
        self._name = paths.name
        self._driver = driver
        self._progress = progress
        self._way = WayDown(paths.console)
        self._begun = time.monotonic()
        self._patient = False

    def ended(self, seconds: float) -> bool:
        """Whether it is off, `seconds` after nothing more is known of containers that end."""
        deadline = time.monotonic() + seconds
        while True:
            off = self._driver.wait_off(min(_LOOK_EVERY, max(0.0, deadline - time.monotonic())))
            for fault in self._way.faults():
                self._progress.note(f"machine {self._name} stops: {fault}")
            if off:
                return True
            if self._stands_still():
                return False
            now = time.monotonic()
            if now - self._begun < ENGINE_SECONDS and self._way.engine_stops():
                deadline = now + seconds
                self._be_patient(now)
            elif now >= deadline:
                return False

    def _stands_still(self) -> bool:
        """An agent may have lost its guest already, so that nobody else lets it go on."""
        if self._driver.state() is DomainState.STALLED:
            self.stuck = no_room(self._paths)
            if self.stuck is None:
                self._driver.unpause()
        return self.stuck is not None

    def _be_patient(self, now: float) -> None:
        if self._patient or now - self._begun < GUEST_SECONDS:
            return
        self._patient = True
        self._progress.note(
            f"machine {self._name} waits for containers that have a longer stop time; to cut its power instead, press "
            f"Ctrl-C, then: hostvm stop --force {self._name}"
        )


def _ask(paths: MachinePaths, driver: Driver, progress: Progress) -> None:
    descent = _Descent(paths, driver, progress)
    with suppress(HostvmError, OSError):  # no agent, no ssh: the next way is tried
        run_in_guest(paths.run_dir, POWEROFF, timeout=10.0)
        if descent.ended(GUEST_SECONDS):
            return
    if descent.stuck is None:
        with suppress(HostvmError, OSError):  # it does not answer: it may have heard, and its power can still be cut
            driver.powerdown()
        if descent.ended(ACPI_SECONDS):
            return
    if descent.stuck is not None:
        raise descent.stuck  # what its containers wrote, and is not on the disk yet, would be lost
    progress.note(f"machine {paths.name} does not power itself off; cutting its power")
