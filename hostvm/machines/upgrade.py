"""Another guest image under a machine's data: tried by a whole start, given up for the former one when that fails.

One whose command is killed meanwhile is settled by the next start or upgrade: see `hostvm.machines.trial`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hostvm.agent.client import agent_is_ready
from hostvm.config.rewrite import set_value
from hostvm.drivers.base import DomainState
from hostvm.errors import HostvmError, MachineError
from hostvm.files import rewrite
from hostvm.guest_images import require_engine
from hostvm.machines.boot import check_startable, start_machine
from hostvm.machines.halt import stop_machine
from hostvm.machines.open import machine_driver
from hostvm.machines.stalled import unstalled, why_still
from hostvm.machines.trial import begin_trial, is_whole, settle_trial, short
from hostvm.paths import CONSOLE_LOG_BEFORE
from hostvm.platform.words import in_turn, show_file
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state
from images.store import verify_image

if TYPE_CHECKING:
    from hostvm.drivers.base import Driver
    from hostvm.machines.boot import BootEngine
    from hostvm.paths import MachinePaths
    from hostvm.residents import Residents
    from hostvm.state import MachineState
    from images.progress import Progress
    from images.store import Image


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One that was done.

    :param before: digest, "sha256:...".
    :param seconds: from power-on until the machine was ready with the new image.
    """

    before: str
    after: str
    seconds: float


def upgrade_machine(
    paths: MachinePaths, image: Image, progress: Progress, engine: BootEngine, residents: Residents, word: str = ""
) -> Upgrade | None:
    """Let the machine boot `image` from now on; None when it does already. The machine's lock must be held.

    A machine that runs, or is suspended, is stopped in order and runs afterwards; one that is off is started for the
    trial and stopped again. The data disk stays as it is. When the start fails, or a container that restarts by itself
    does not come back, the former image is put back, and started if the machine ran; if it is gone or damaged, the new
    one stays. Interrupted, it is off, with the former image if that is whole. A trial of before that was broken off is
    settled first.

    :param word: what machine.yaml is to say as `image:`; "" leaves it.
    :raises MachineError: the new image did not prove itself; the details say whether the former one runs again.
    :raises HostvmError: the image is damaged, a start would be refused, or the machine stands still for want of room;
        nothing was stopped or changed, but that a trial which was broken off before was given up.
    """
    spec, state = load_spec(paths.spec), load_state(paths)
    driver = machine_driver(paths, state, spec)
    given_up = settle_trial(paths, driver, progress, lambda: stop_machine(paths, progress))
    state = load_state(paths)
    digest = f"sha256:{image.digest}"
    if state.image == digest:
        _write_word(paths, word)
        if given_up and not state.wanted_off:
            start_machine(paths, progress, engine)
        return None
    _check_fits(paths, state, image)
    check_startable(paths, spec, engine)
    way_back = is_whole(state.image)
    if not way_back:
        progress.note(f"image {short(state.image)} is gone or damaged, so there is no way back to it")
    is_on = unstalled(paths, driver) is not DomainState.OFF or paths.suspended.exists()
    was_on = is_on or (given_up and not state.wanted_off)
    if is_on:
        if agent_is_ready(paths.run_dir):
            _note(paths, driver, residents)
        stop_machine(paths, progress)
    # Both are written down before anything boots: whoever prunes images meanwhile leaves them alone.
    tries = begin_trial(state, digest) if way_back else replace(state, image=digest, former_image="")
    save_state(paths, tries)
    try:
        seconds = _try(paths, state if way_back else None, progress, engine, residents, was_on=was_on)
    except BaseException as fault:
        if not isinstance(fault, HostvmError):
            _break_off(paths, state if way_back else tries, progress)
        raise
    save_state(paths, replace(load_state(paths), trial=None))
    _write_word(paths, word)
    if not was_on:
        stop_machine(paths, progress)
        save_state(paths, replace(load_state(paths), wanted_off=state.wanted_off))
    return Upgrade(state.image, digest, seconds)


def _note(paths: MachinePaths, driver: Driver, residents: Residents) -> None:
    try:
        residents.note()
    except HostvmError as fault:
        if (why := why_still(paths, driver)) is not None:
            raise why from fault
        raise


def _check_fits(paths: MachinePaths, state: MachineState, image: Image) -> None:
    if image.arch != state.arch:
        raise MachineError(
            f"image {image.digest[:12]} is none for machine {paths.name}",
            f"it is of {image.arch}, the machine of {state.arch}",
            "see the images: hostvm image ls",
        )
    spec = load_spec(paths.spec)
    require_engine(image, spec.engine, rootless=spec.rootless)
    verify_image(image)


def _try(
    paths: MachinePaths,
    former: MachineState | None,
    progress: Progress,
    engine: BootEngine,
    residents: Residents,
    *,
    was_on: bool,
) -> float:
    """Start it with the new image; gives the seconds. One that fails has its former image again, if there is a way."""
    try:
        return _prove(paths, progress, engine, residents)
    except HostvmError as fault:
        if former is None:
            raise
        raise _roll_back(paths, former, fault, progress, engine, was_on=was_on) from fault


def _break_off(paths: MachinePaths, state: MachineState, progress: Progress) -> None:
    """After Ctrl-C: cut the machine's power, then give it the image of `state`.

    Not the other way round: a machine that runs with one image and is said to have another would be suspended as the
    latter's. Interrupted once more, it stays on trial, which its next start settles.
    """
    try:
        stop_machine(paths, progress, force=True)
    except HostvmError:
        _put_back(paths, state)
        raise
    _put_back(paths, state)


def _put_back(paths: MachinePaths, state: MachineState) -> None:
    """What the machine was before the trial. Its ports, and disks that were made in it, stay."""
    now = load_state(paths)
    save_state(paths, replace(state, ssh_port=now.ssh_port, subnet=now.subnet, disks=now.disks, trial=None))


def _prove(paths: MachinePaths, progress: Progress, engine: BootEngine, residents: Residents) -> float:
    seconds = start_machine(paths, progress, engine) or 0.0
    if missing := residents.missing():
        raise MachineError(
            f"{_names(missing)}, which restarts by itself, does not come back",
            None,
            f"hostvm -m {paths.name} docker logs {missing[0]}",
        )
    return seconds


def _roll_back(
    paths: MachinePaths,
    state: MachineState,
    fault: HostvmError,
    progress: Progress,
    engine: BootEngine,
    *,
    was_on: bool,
) -> MachineError:
    """Put the former image back; gives the error that tells of both."""
    tried = load_state(paths).image
    progress.note(f"image {short(tried)} failed; back to {short(state.image)}")
    now, way, is_off = "is off, as before", f"see what it booted with: {show_file(str(paths.console))}", True
    is_silent = not _said(paths)
    try:
        stop_machine(paths, progress)
    except HostvmError as second:
        now, way, is_off = f"cannot be stopped: {second}", f"hostvm restart {paths.name}", False
    _put_back(paths, state)
    if was_on and is_off:
        now, way = "runs again", f"see that boot's console: {show_file(str(paths.folder / CONSOLE_LOG_BEFORE))}"
        try:
            start_machine(paths, progress, engine)
        except HostvmError as second:
            now, way = f"does not start with it either: {second}", second.resolution or f"hostvm start {paths.name}"
            is_silent = False
    if is_silent and is_off:
        # A start keeps the last console that says anything: the boot before the trial's, or the one just begun.
        now += "; the new image's boot said nothing on its console"
        anew = in_turn(f"hostvm image rm {short(tried)}", f"hostvm upgrade {paths.name}")
        way = f"make that image anew: {anew}"
    return MachineError(
        f"machine {paths.name} was not upgraded to image {short(tried)}",
        "\n".join(
            part
            for part in (
                fault.brief,
                fault.details,
                f"its image is {short(state.image)} again, its data are kept, and it {now}",
            )
            if part
        ),
        way,
    )


def _said(paths: MachinePaths) -> bool:
    """Whether the last boot said anything on its console."""
    try:
        return paths.console.stat().st_size > 0
    except OSError:
        return False


def _write_word(paths: MachinePaths, word: str) -> None:
    if not word or load_spec(paths.spec).image == word:
        return
    text = set_value(paths.spec.read_text(encoding="utf-8"), ["image"], word)
    rewrite(paths.spec, text)


def _names(names: list[str]) -> str:
    return f"container {names[0]}" if len(names) == 1 else f"each of the containers {', '.join(names)}"
