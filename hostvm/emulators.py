"""Emulators in a running guest, for what `emulate:` of machine.yaml names.

The guest keeps them on its data disk and registers those that its seed names while the engine starts, so what was
placed once works at every start, without this computer's cache. See images/files/guest/usr/lib/hostvm/emulators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.agent.client import run_in_guest
from hostvm.agent.pipe import GuestPipe
from hostvm.emulate import AUTO, emulated
from hostvm.errors import HostvmError, MachineError
from images.emulators import Supply, fetch_emulators, find_emulator, find_sound_emulator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hostvm.paths import MachinePaths
    from images.emulators import Emulator
    from images.progress import Progress

_PROGRAM = "/usr/lib/hostvm/emulators"
_SECONDS = 60.0


def provide_emulators(run_dir: Path, names: Sequence[str], arch: str, cache: Path, progress: Progress) -> None:
    """Make a running guest run programs of these architectures; what it has already costs one question.

    :raises HostvmError: the emulators cannot be fetched, or the guest does not take them.
    """
    missing = _register(run_dir, names)
    for name in missing:
        found = find_sound_emulator(name, arch, cache)
        if found is None:
            progress.note(f"the emulator of {name} is not here yet, or damaged, and is fetched now")
            fetch_emulators(Supply(arch, cache), progress)
            found = find_sound_emulator(name, arch, cache)
            assert found is not None  # all are stored together
        with progress.step(f"emulator of {name}"):
            _place(run_dir, found)


def stored_emulators(names: Sequence[str], arch: str, cache: Path) -> tuple[str, ...]:
    """Those whose emulators are stored here."""
    return tuple(name for name in names if find_emulator(name, arch, cache) is not None)


def _register(run_dir: Path, names: Sequence[str]) -> list[str]:
    done = run_in_guest(run_dir, [_PROGRAM, *names], timeout=_SECONDS)
    if done.status != 0:
        raise _refused(run_dir, done.stderr.decode(errors="replace"))
    return done.stdout.decode().split()


def _place(run_dir: Path, emulator: Emulator) -> None:
    with GuestPipe(run_dir, [_PROGRAM, "--add", emulator.name, emulator.sha256, emulator.pattern]) as pipe:
        with emulator.packed.open("rb") as file:
            while chunk := file.read(1 << 20):
                pipe.write(chunk)
        pipe.finish()


def _refused(run_dir: Path, why: str) -> MachineError:
    return MachineError(
        f"machine {run_dir.name} cannot run programs of other architectures",
        why.strip() or "its image is from before this was possible",
        f"give it a new image: hostvm upgrade {run_dir.name}",
    )


def start_emulators(paths: MachinePaths, wanted: Sequence[str], arch: str, cache: Path, progress: Progress) -> None:
    """At a start: place what machine.yaml names. What `auto` stands for only if it is stored here already.

    A start does not fail for it: the rest of the machine is as it should be.
    """
    names = emulated(wanted, arch)
    if tuple(wanted) == AUTO:
        names = stored_emulators(names, arch, cache)
    if not names:
        return
    try:
        provide_emulators(paths.run_dir, names, arch, cache, progress)
    except HostvmError as fault:
        progress.note(
            f"warning: no programs of {', '.join(names)}: {fault.brief}; try again: hostvm restart {paths.name}"
        )
