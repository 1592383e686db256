"""A machine's parts, opened: its settings, its state, its driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.drivers.registry import open_driver

if TYPE_CHECKING:
    from hostvm.drivers.base import Driver
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec
    from hostvm.state import MachineState


def machine_driver(paths: MachinePaths, state: MachineState, spec: MachineSpec | None) -> Driver:
    """The driver that made the machine, whatever `auto` would choose today."""
    uri = spec.libvirt_uri if spec else ""
    return open_driver(state.driver, name=paths.name, uuid=state.uuid, run_dir=paths.run_dir, uri=uri)
