"""autostart enable, disable, status, run."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli import held
from cli.commands.common import chosen_paths, existing_paths, held_machine, print_json, say
from cli.progress import make_progress
from hostvm.agent.spawn import sleeper_status
from hostvm.drivers.base import DomainState
from hostvm.errors import MachineError
from hostvm.locks import BusyError, machine_lock
from hostvm.machines.halt import stop_machine
from hostvm.machines.open import machine_driver
from hostvm.platform import login
from hostvm.spec import load_spec
from hostvm.state import load_state, save_state

if TYPE_CHECKING:
    import argparse

    from hostvm.paths import MachinePaths

_LOOK_SECONDS = 2.0


def enable(options: argparse.Namespace) -> int:
    """Start the machine at each login from now on."""
    paths = existing_paths(options)
    wanted = login.login_of(paths.name)
    if options.print:
        sys.stdout.buffer.write(login.content(wanted))
        return 0
    login.install(wanted)
    say(options, f"machine {paths.name} starts at each login; start it now with: hostvm start {paths.name}")
    return status(options) if options.json else 0


def disable(options: argparse.Namespace) -> int:
    """Start it at login no more; also of a machine that is gone."""
    paths = chosen_paths(options)
    was = login.remove(paths.name)
    say(options, f"machine {paths.name} " + ("starts at login no more" if was else "did not start at login"))
    return status(options) if options.json else 0


def status(options: argparse.Namespace) -> int:
    """Whether it starts at login."""
    name = chosen_paths(options).name
    file, enabled = login.place(name), login.is_installed(name)
    if options.json:
        return print_json({"name": name, "enabled": enabled, "file": str(file) if file and enabled else None})
    sys.stdout.write(f"machine {name}: {'starts at login' if enabled else 'does not start at login'}\n")
    return 0


def run(options: argparse.Namespace) -> int:
    """Start the machine and stay while it runs; SIGTERM stops it in order. Never starts it a second time."""
    paths = existing_paths(options)
    progress = make_progress(quiet=options.quiet)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with held_machine(paths):
            held.start(paths, progress)
        _watch(paths)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with machine_lock(paths):
            if paths.folder.is_dir():
                stop_machine(paths, progress)
                # The session ended, not the user's wish: a command of the next session may start it.
                save_state(paths, replace(load_state(paths), wanted_off=False))
        return 0
    if not paths.folder.is_dir() or load_state(paths).wanted_off:
        return 0
    name = paths.name
    raise MachineError(
        f"machine {name} went down by itself", None, f"hostvm logs --console {name}   # then: hostvm start {name}"
    )


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _watch(paths: MachinePaths) -> None:
    """Until the machine is off, or gone. One that sleeps is neither: its next client wakes it."""
    driver = machine_driver(paths, load_state(paths), load_spec(paths.spec))
    while True:
        time.sleep(_LOOK_SECONDS)
        if driver.state() is not DomainState.OFF:
            continue
        with suppress(BusyError), machine_lock(paths):  # a restart is over by then, an upgrade perhaps at the next look
            if driver.state() is DomainState.OFF and not _sleeps(paths):
                return


def _sleeps(paths: MachinePaths) -> bool:
    return paths.suspended.exists() or sleeper_status(paths.run_dir) is not None
