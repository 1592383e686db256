"""What was made of a machine: `state.json`, versioned and written whole. Nothing volatile is kept here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.files import write_atomic
from hostvm.net.addresses import DEFAULT_SUBNET

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths

VERSION = 1


@dataclass(frozen=True, slots=True)
class MachineState:
    """Decisions that stay: identity, port, driver, image.

    :param image: digest of the guest image it boots, "sha256:...".
    :param former_image: digest of the image before the last upgrade, "" without one; kept for the way back.
    :param disks: names of further disks that were made, whether machine.yaml still has them or not.
    :param subnet: of the guest's network, chosen at its last start.
    :param wanted_off: the user stopped it (or never started it), so no other command starts it by itself.
    :param owner: number and start of the process that it goes with; None for a machine that stays.
    :param parent: the uuid of the machine that it was cloned from; "" for none.
    """

    uuid: str
    mac: str
    arch: str
    ssh_port: int
    driver: str
    image: str
    created: str
    wanted_off: bool = True
    former_image: str = ""
    disks: list[str] = field(default_factory=list)
    subnet: str = DEFAULT_SUBNET
    parent: str = ""
    owner: list[float] | None = None
    version: int = VERSION


def load_state(paths: MachinePaths) -> MachineState:
    """Read state.json.

    :raises MachineError: missing, damaged, or written by a newer hostvm.
    """
    path = paths.state
    rescue = f"remove the machine and its data with: hostvm rm --force {paths.name}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = int(data["version"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise MachineError(f"machine {paths.name} is damaged", f"{path}: {fault!r}", rescue) from fault
    if version > VERSION:
        raise MachineError(
            f"machine {paths.name} was made by a newer hostvm",
            f"{path} has version {version}; this one knows up to {VERSION}",
            "upgrade with: pip install --upgrade hostvm",
        )
    if data.get("machine", paths.name) != paths.name:
        raise MachineError(
            f"machine {paths.name} is damaged",
            f"{path} is that of machine {data['machine']}; two machines must not have one identity",
            f"put its own file back, or {rescue}",
        )
    names = {field.name for field in fields(MachineState)}
    try:
        return MachineState(**{key: value for key, value in data.items() if key in names})
    except TypeError as fault:
        raise MachineError(f"machine {paths.name} is damaged", f"{path}: {fault}", rescue) from fault


def save_state(paths: MachinePaths, state: MachineState) -> None:
    """Write state.json; the machine's lock must be held."""
    facts = {"machine": paths.name, **asdict(state)}
    write_atomic(paths.state, json.dumps(facts, indent=2).encode() + b"\n")
