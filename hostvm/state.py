"""What was made of a machine: `state.json`, versioned and written whole. Nothing volatile is kept here.

A key that is added with a default needs no new version: older files have the default, older hostvms pass it over. Any
other change does, with a step in `MIGRATIONS`: an older file is changed as it is read, and written so the next time
something of the machine changes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from hostvm.errors import MachineError
from hostvm.facts import KINDS, Kinds, faults, is_list, is_whole
from hostvm.files import write_atomic
from hostvm.net.addresses import DEFAULT_SUBNET

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.paths import MachinePaths

Port = int
_PORT_MOST = 65535

VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""For each version before: makes of its facts those of the version behind it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a machine was before the upgrade that is being tried: see `hostvm.machines.trial`.

    :param process: `ProcessId.facts` of the command that tries.
    """

    process: list[float | str]
    image: str
    former_image: str
    wanted_off: bool


@dataclass(frozen=True, slots=True)
class MachineState:
    """Decisions that stay: identity, port, driver, image.

    :param image: digest of the guest image it boots, "sha256:...".
    :param former_image: digest of the image before the last upgrade, "" without one; kept for the way back.
    :param disks: names of further disks that were made, whether machine.yaml still has them or not.
    :param subnet: of the guest's network, chosen at its last start.
    :param wanted_off: the user stopped it (or never started it), so no other command starts it by itself.
    :param trial: of `image`, while it has not proven itself.
    :param owner: `ProcessId.facts` of the process that it goes with; None for a machine that stays.
    :param parent: the uuid of the machine that it was cloned from; "" for none.
    """

    uuid: str
    mac: str
    arch: str
    ssh_port: Port
    driver: str
    image: str
    created: str
    wanted_off: bool = True
    former_image: str = ""
    disks: list[str] = field(default_factory=list)
    subnet: str = DEFAULT_SUBNET
    parent: str = ""
    trial: Trial | None = None
    owner: list[float | str] | None = None
    version: int = VERSION


def _is_process(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) in {2, 3} and is_list(value[:2], int, float) and is_list(value[2:], str)
    )


_KINDS: Kinds = {
    **KINDS,
    "Port": ("a port's number", lambda value: is_whole(value) and 0 < value <= _PORT_MOST),
    "list[float | str]": ("number, start and boot of a process", _is_process),
    "list[float | str] | None": (
        "number, start and boot of a process",
        lambda value: value is None or _is_process(value),
    ),
    "Trial | None": (
        "what there was before a trial",
        lambda value: value is None or (isinstance(value, dict) and not faults(value, Trial, _KINDS)),
    ),
}


def load_state(paths: MachinePaths) -> MachineState:
    """Read state.json, of this version or an older one.

    :raises MachineError: missing, damaged, or written by a newer hostvm.
    """
    path = paths.state
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = int(data["version"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as fault:
        raise _damaged(paths, [repr(fault)]) from fault
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
            f"put its own file back, or {_removal(paths)}",
        )
    try:
        for step in range(version, VERSION):
            data = {**MIGRATIONS[step](data), "version": step + 1}
        wrong = faults(data, MachineState, _KINDS)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise _damaged(paths, [f"version {version} cannot be read: {fault!r}"]) from fault
    if wrong:
        raise _damaged(paths, wrong, f"correct it in: {path}\nor ")
    if data.get("trial"):
        data = {**data, "trial": Trial(**_known(data["trial"], Trial))}
    return MachineState(**_known(data, MachineState))


def _damaged(paths: MachinePaths, wrong: list[str], way: str = "") -> MachineError:
    """:param way: to mend it, before the last one."""
    told = "\n".join(f"{paths.state}: {fault}" for fault in wrong)
    return MachineError(f"machine {paths.name} is damaged", told, way + _removal(paths))


def _removal(paths: MachinePaths) -> str:
    return f"remove the machine and its data with: hostvm rm --force {paths.name}"


def _known(data: dict[str, Any], record: type[MachineState | Trial]) -> dict[str, Any]:
    names = {field.name for field in fields(record)}
    return {key: value for key, value in data.items() if key in names}


def save_state(paths: MachinePaths, state: MachineState) -> None:
    """Write state.json, unless it says that already; the machine's lock must be held."""
    data = json.dumps({"machine": paths.name, **asdict(state)}, indent=2).encode() + b"\n"
    with suppress(OSError):
        if paths.state.read_bytes() == data:
            return  # a machine goes on, and is handed a new agent, though this computer's disk is full
    write_atomic(paths.state, data)
