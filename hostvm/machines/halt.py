"""Power a machine off: through the guest, then ACPI, then by cutting the power, each with a deadline."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm.agent.client import end_agent, run_in_guest
from hostvm.agent.spawn import end_sleeper
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError
from hostvm.machines.open import machine_driver
from hostvm.machines.saved import drop_saved
from hostvm.machines.wake import wake_machine
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from images.progress import Progress

# Containers have 10 s to end by docker's rule, then dockerd and the file systems need a moment.
GUEST_SECONDS = 25.0
ACPI_SECONDS = 15.0
POWEROFF = ("hostvm-poweroff",)


def stop_machine(paths: MachinePaths, progress: Progress, *, force: bool = False, asleep: bool = False) -> bool:
    """Stop the machine and its agent; True when it was running. The machine's lock must be held. Idempotent.

    With `force` the power is cut at once; the guest's file system is journalled and repairs itself at boot. One that
    is suspended or paused goes on first, so that its containers end in order; with `force` its memory is dropped.

    :param asleep: nobody wants it off: the next command starts it, as does a docker client where a sleeper listens.
    :raises DriverError: it cannot be stopped even by cutting the power.
    :raises MachineError: its saved state cannot be used, and `force` was not given.
    """
    driver = machine_driver(paths, load_state(paths), None if force else load_spec(paths.spec))
    if not force:
        wake_machine(paths, driver, progress)
    was_on = driver.state() is not DomainState.OFF or paths.suspended.exists()
    if was_on and not force:
        with progress.step(f"stop {paths.name}"):
            _ask(paths, driver, progress)
    driver.kill()  # clears what a stopped domain leaves behind, too
    end_agent(paths.run_dir)
    drop_saved(paths)
    if not asleep:
        end_sleeper(paths.run_dir)
    save_state(paths, replace(load_state(paths), wanted_off=not asleep))
    return was_on


def _ask(paths: MachinePaths, driver: Driver, progress: Progress) -> None:
    with suppress(HostvmError, OSError):  # no agent, no ssh: the next way is tried
        run_in_guest(paths.run_dir, POWEROFF, timeout=10.0)
        if driver.wait_off(GUEST_SECONDS):
            return
    driver.powerdown()
    if not driver.wait_off(ACPI_SECONDS):
        progress.note(f"machine {paths.name} does not power itself off; cutting its power")
