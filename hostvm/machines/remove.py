"""Delete a machine, damaged ones too."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hostvm.agent.client import end_agent
from hostvm.agent.spawn import end_sleeper
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError
from hostvm.machines.clone import children
from hostvm.machines.drafts import sweep_drafts
from hostvm.machines.halt import stop_machine
from hostvm.machines.layers import delete_folder, layers_lock
from hostvm.machines.open import is_others, machine_driver, require_disks_unused, spec_or_none
from hostvm.state import load_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.paths import MachinePaths
    from images.progress import Progress


def _nothing() -> None:
    pass


def remove_machine(
    paths: MachinePaths, progress: Progress, *, force: bool = False, before: Callable[[], None] = _nothing
) -> None:
    """Delete its folder and run-time files; the machine's lock must be held.

    A killed `rm` leaves no half a machine, and the next one deletes the rest. What clones of it stand on stays, and
    what runs under its name from another HOSTVM_HOME is left alone.

    :param before: is called when nothing hinders it any more, right before the deletion.
    :raises MachineError: it runs, has clones, or is damaged, and `force` was not given; or it has, and another process
        has its disk open, which this one cannot end: it was started with another HOSTVM_RUN.
    """
    others = is_others(paths)
    if force and not others:
        _cut_power(paths, progress)
        end_agent(paths.run_dir)
    elif clones := children(load_state(paths).uuid):
        raise MachineError(
            f"machine {paths.name} has clones: {', '.join(clones)}",
            "they stand on the disk that it had when they were made",
            f"remove them first: hostvm rm {clones[0]}\n"
            f"or remove it alone, which frees only what is its own: hostvm rm --force {paths.name}",
        )
    elif not others and _is_running(paths):
        raise MachineError(
            f"machine {paths.name} is running",
            "deleting it would end its containers",
            f"stop it first: hostvm stop {paths.name}\nor do both: hostvm rm --force {paths.name}",
        )
    require_disks_unused(paths)
    end_sleeper(paths.run_dir)
    before()
    sweep_drafts(paths)
    with layers_lock() as folder:
        delete_folder(folder, paths.folder)
    if not others:
        shutil.rmtree(paths.run_dir, ignore_errors=True)


def _cut_power(paths: MachinePaths, progress: Progress) -> None:
    try:
        stop_machine(paths, progress, force=True)
    except MachineError:
        pass  # a damaged state names no driver to stop
    except OSError:
        # A disk that is too full for a machine's state is why some are removed.
        if _is_running(paths):
            raise


def _is_running(paths: MachinePaths) -> bool:
    state = load_state(paths)
    try:
        return machine_driver(paths, state, spec_or_none(paths)).state() is not DomainState.OFF
    except HostvmError as fault:
        raise MachineError(
            f"whether machine {paths.name} runs cannot be told",
            str(fault),
            f"remove it all the same: hostvm rm --force {paths.name}",
        ) from fault
