"""An upgrade whose command was killed in the midst of its trial: what becomes of the machine.

Before the new image is booted, `state.json` gets what to go back to and which process tries; both go when the image has
proven itself, or was given up. Found later with that process gone, the trial is settled by whoever has the machine's
lock next. One that is ready with the new image as it is started, stopped, paused or suspended, or that runs and gets
ready at the next start, keeps it: it has passed the checks of a start. Any other has its former image again from the
next start on, unless that one is gone or damaged.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm import process_id
from hostvm.agent.client import agent_is_ready
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError
from hostvm.process_id import ProcessId
from hostvm.state import Trial, load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from hostvm.state import MachineState
    from images.progress import Progress


def begin_trial(state: MachineState, image: str) -> MachineState:
    """The state of a machine that is about to try `image`, a digest, as this process does it."""
    me = process_id.identify(os.getpid()) or ProcessId(os.getpid(), 0.0)
    trial = Trial(me.facts(), state.image, state.former_image, state.wanted_off)
    return replace(state, image=image, former_image=state.image, trial=trial)


def is_broken_off(state: MachineState) -> bool:
    """Whether an image is on trial, and nobody is left who tries it."""
    return state.trial is not None and not process_id.is_alive(ProcessId.of(state.trial.process))


def settle_trial(paths: MachinePaths, driver: Driver, progress: Progress, stop: Callable[[], object]) -> bool:
    """Keep or give up the image of a trial that was broken off; True when it was given up. Its lock must be held.

    Call it of a machine that runs only when that cannot be made ready: it may be in use, its agent having died.

    :param stop: powers the machine off, if it is on.
    :raises HostvmError: it cannot be stopped; then it is settled the next time.
    """
    state = load_state(paths)
    if state.trial is None or not is_broken_off(state) or keep_proven(paths, driver, progress):
        return False
    tried, before = short(state.image), short(state.trial.image)
    if not is_whole(state.trial.image):
        save_state(paths, replace(state, former_image="", trial=None))
        progress.note(f"the upgrade to image {tried} was broken off; it stays, since {before} is gone or damaged")
        return False
    if keep_proven(paths, driver, progress):  # it became ready while the former image was read
        return False
    off = state.wanted_off  # by its user, since then
    stop()
    state = load_state(paths)
    if state.trial is None:
        return False  # it became ready a moment ago
    save_state(paths, _given_up(state, state.trial, wanted_off=off or state.trial.wanted_off))
    progress.note(f"the upgrade of machine {paths.name} to image {tried} was broken off; its image is {before} again")
    return True


def keep_proven(paths: MachinePaths, driver: Driver, progress: Progress) -> bool:
    """Keep the image of a trial that was broken off, if it has proven itself; False if not, or there was no such trial.

    The machine's lock must be held.
    """
    state = load_state(paths)
    if not is_broken_off(state):
        return False
    is_ready = driver.state() is DomainState.RUNNING and agent_is_ready(paths.run_dir)
    if not is_ready and not paths.suspended.exists():
        return False
    save_state(paths, replace(state, trial=None))
    tried = short(state.image)
    progress.note(f"the upgrade of machine {paths.name} was broken off; it keeps image {tried}, which works")
    return True


def is_whole(digest: str) -> bool:
    """Whether an image is there, every byte of it: a damaged one is no way back."""
    from hostvm.guest_images import stored_image  # a tenth of a start's imports, and more of a stop's
    from images.store import verify_image

    try:
        verify_image(stored_image(digest))
    except (HostvmError, OSError):
        return False
    return True


def short(digest: str) -> str:
    """As people see it."""
    return digest.removeprefix("sha256:")[:12]


def _given_up(state: MachineState, trial: Trial, *, wanted_off: bool) -> MachineState:
    return replace(state, image=trial.image, former_image=trial.former_image, wanted_off=wanted_off, trial=None)
