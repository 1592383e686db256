"""A machine that stands still because this computer could not write its disk: why, and when it may go on.

Its hypervisor halted it in the midst of the write, and repeats that when it runs on: nothing in the guest is lost.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError
from hostvm.platform.words import free_room, show_folder
from hostvm.sizes import MIB, human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths

ROOM = 64 * MIB
"""Bytes that must be free for a machine to go on; with less it would stand still again at once."""


def let_go_on(paths: MachinePaths, driver: Driver) -> None:
    """Let a stalled machine run, when there is room now.

    :raises MachineError: there is none.
    :raises HostvmError: it does not run: its disk cannot be written for another reason.
    """
    if (error := no_room(paths)) is not None:
        raise error
    driver.unpause()


def unstalled(paths: MachinePaths, driver: Driver) -> DomainState:
    """The machine's state, after one that stood still was let go on.

    :raises HostvmError: as `let_go_on`.
    """
    power = driver.state()
    if power is not DomainState.STALLED:
        return power
    let_go_on(paths, driver)
    return DomainState.RUNNING


def why_still(paths: MachinePaths, driver: Driver, *, starts: bool = False) -> MachineError | None:
    """Why a machine that did not do what it was told could not; nobody else has to be told that it waits.

    :param starts: as of `no_room`.
    """
    with suppress(HostvmError, OSError):
        if driver.state() is DomainState.STALLED:
            return no_room(paths, starts=starts)
    return None


def no_room(paths: MachinePaths, *, starts: bool = False) -> MachineError | None:
    """What to tell of a machine that stands still; None when its disk has room.

    :param starts: it was to start, and is powered off again.
    """
    folder = paths.data_disk.resolve().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as fault:  # the drive that it is on was unplugged, say
        return MachineError(
            f"machine {paths.name} stands still: its disk is not there",
            str(fault),
            f"bring it back: {show_folder(str(folder))}\nor give the machine up: hostvm stop --force {paths.name}",
        )
    if free >= ROOM:
        return None
    if starts:
        return MachineError(
            f"machine {paths.name} did not start: this computer's disk is full",
            f"{human_size(free)} are free in {folder}; it was powered off again, and its data are kept",
            f"free at least {human_size(ROOM)} there: {free_room(str(folder))}\nthen: hostvm start {paths.name}",
        )
    return MachineError(
        f"machine {paths.name} stands still: this computer's disk is full",
        f"{human_size(free)} are free in {folder}; nothing is lost, and it goes on by itself when there is room",
        f"free at least {human_size(ROOM)} there: {free_room(str(folder))}\n"
        f"or give it up: hostvm stop --force {paths.name}",
    )


def watcher(paths: MachinePaths, driver: Driver) -> Callable[[], MachineError | None]:
    """What the agent asks: why the machine stands still, None when it does not; one that can is let go on."""

    def look() -> MachineError | None:
        try:
            if driver.state() is not DomainState.STALLED:
                return None
        except (HostvmError, OSError):
            return None  # a hypervisor that does not answer says nothing of the disk
        try:
            let_go_on(paths, driver)
        except MachineError as error:
            return error
        except (HostvmError, OSError) as error:
            return MachineError(
                f"machine {paths.name} stands still: its disk cannot be written",
                str(error),
                f"look at the disk's folder: {show_folder(str(paths.folder))}\n"
                f"or give it up: hostvm stop --force {paths.name}",
            )
        return None

    return look
