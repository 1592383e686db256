"""A machine's parts, opened: its settings, its state, its driver."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.disks import require_unused
from hostvm.drivers.base import DomainState
from hostvm.drivers.registry import open_driver
from hostvm.errors import HostvmError, MachineError
from hostvm.more_disks import more_files
from hostvm.platform.words import set_variable
from hostvm.spec import load_spec

if TYPE_CHECKING:
    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState


def is_others(paths: MachinePaths) -> bool:
    """Whether the run folder is that of a machine of the same name in another HOSTVM_HOME (a copy, a backup)."""
    try:
        disk = Path(json.loads(paths.domain.read_text(encoding="utf-8"))["data_disk"])
        # One whose home was moved meanwhile is still its own.
        return disk.exists() and not (paths.data_disk.exists() and disk.samefile(paths.data_disk))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def require_disks_unused(paths: MachinePaths) -> None:
    """:raises MachineError: a machine that seems to be off runs all the same, see `hostvm.disks.require_unused`."""
    for disk in (paths.data_disk, *more_files(paths.folder)):
        if disk.exists():
            require_unused(disk)


def spec_or_none(paths: MachinePaths) -> MachineSpec | None:
    """The machine's settings, or those of its last boot; None for want of both, as power is cut all the same."""
    for path in (paths.spec, paths.booted_spec):
        with suppress(HostvmError):
            return load_spec(path)
    return None


def machine_driver(paths: MachinePaths, state: MachineState, spec: MachineSpec | None) -> Driver:
    """The driver that made the machine, whatever `auto` would choose today.

    :raises MachineError: what runs under its name is a machine of another HOSTVM_HOME.
    """
    uri = spec.libvirt_uri if spec else ""
    driver = open_driver(state.driver, name=paths.name, uuid=state.uuid, run_dir=paths.run_dir, uri=uri)
    if is_others(paths) and driver.state() is not DomainState.OFF:
        raise MachineError(
            f"another machine called {paths.name} runs in {paths.run_dir}",
            f"its files are not in {paths.folder}, but in another HOSTVM_HOME",
            f"give this one a run folder of its own: {set_variable('HOSTVM_RUN', f'{paths.run_dir.parent}-other')}",
        )
    return driver
