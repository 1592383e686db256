"""What the user wants of a machine: `machine.yaml`, the options of `start` and `create`, and their defaults.

A setting is declared once, in `SETTINGS`; the file's keys, the command's options and their help, the JSON Schema and
the documentation follow from it.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from hostvm.config.kinds import (
    Bool,
    Choice,
    Key,
    Keys,
    Size,
    Text,
    Time,
    Variables,
    Whole,
    WrongValueError,
    format_time,
)
from hostvm.emulate import AUTO as EMULATE_AUTO
from hostvm.emulate import EMULATE, render_emulate
from hostvm.engines import ENGINES, ROOTLESS, own_image
from hostvm.errors import SpecError
from hostvm.more_disks import Disk, Disks, render_disks
from hostvm.net import settings as net
from hostvm.platform.memory import total_memory
from hostvm.provision import Script, Scripts, render_scripts
from hostvm.shares.model import Mount, default_mounts
from hostvm.shares.settings import Mounts, render_mounts
from hostvm.sizes import GIB, MIB, format_size
from images.document import DocumentError, read_document
from images.faults import Fault, spell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from hostvm.config.kinds import Kind

MEMORY_MIN = 512 * MIB
DISK_MIN = 2 * GIB


@dataclass(frozen=True, slots=True)
class PortSettings:
    """`ports:` in machine.yaml.

    :param expose: where a publish without an address, `-p 8080:80`, is to be reached: loopback or lan.
    """

    expose: str = "loopback"


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """`idle:` in machine.yaml.

    :param after: seconds without a running container, a command or a connection.
    :param action: suspend, pause, stop or none.
    """

    after: int = 300
    action: str = "none"

    def render(self) -> dict[str, object]:
        """As it is written."""
        return {"after": format_time(self.after), "action": self.action}


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Wanted, never observed. `memory` and `disk` are bytes."""

    cpus: int
    memory: int
    disk: int
    driver: str = "auto"
    libvirt_uri: str = ""
    accel: str = "auto"
    arch: str = "auto"
    engine: str = "docker"
    rootless: bool = False
    image: str = "docker"
    autostart: bool = True
    idle: IdleSettings = IdleSettings()
    on_panic: str = "restart"
    ports: PortSettings = PortSettings()
    mounts: tuple[Mount, ...] = field(default_factory=default_mounts)
    proxy: str = net.HOST
    ca: str = net.HOST
    ssh_agent: bool = True
    names: int = net.NAMES_PORT
    emulate: tuple[str, ...] = EMULATE_AUTO
    network: Mapping[str, str] = field(default_factory=lambda: {"subnet": net.AUTO})
    registries: Mapping[str, Any] = field(default_factory=dict)
    daemon: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[Disk, ...] = ()
    provision: tuple[Script, ...] = ()


class Effect(Enum):
    """When a changed setting counts."""

    NOW = "at once"
    START = "at the next start"
    MADE = "when the machine is made, never later"
    UPGRADE = "when the machine is made, later by `hostvm upgrade`"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of machine.yaml: the only place that knows it.

    :param help: one line; the option's help and the documentation.
    :param default: what the default is, where that depends on the computer.
    :param option: whether `start` and `create` take it.
    """

    key: str
    metavar: str
    help: str
    kind: Kind
    render: Callable[[Any], object] = lambda value: value
    effect: Effect = Effect.START
    default: str = ""
    option: bool = True


def _image(text: str) -> str:
    if not text.strip():
        raise ValueError("names no image; see the stored ones with `hostvm image ls`, and `docker` is the usual one")
    return text


_PORTS = Keys(
    {
        "expose": Key(
            Choice(("loopback", "lan")),
            "where `-p 8080:80`, a publish without an address, is reached",
            default="loopback",
        )
    },
    make=lambda found: PortSettings(**found),
)
_IDLE = Keys(
    {
        "after": Key(Time(), "without a running container, a command or a docker client's connection", default="5m"),
        "action": Key(Choice(("suspend", "pause", "stop", "none")), "what becomes of the machine then", default="none"),
    },
    make=lambda found: IdleSettings(**found),
)
_DRIVERS, _ACCELS = ("auto", "qemu", "libvirt"), ("auto", "kvm", "hvf", "whpx", "tcg")

SETTINGS = (
    Setting(
        "cpus",
        "N",
        "virtual processors",
        Whole(1, lambda: os.cpu_count() or 1, "the processors of this computer"),
        default="4, or the processors of this computer if that is less",
    ),
    Setting(
        "memory",
        "SIZE",
        "memory, for example 4GiB",
        Size(MEMORY_MIN, "is too little for a guest with an engine", lambda: host_memory()),  # noqa: PLW0108 - looked up late
        format_size,
        default="4GiB, or half of this computer's if that is less",
    ),
    Setting(
        "disk",
        "SIZE",
        "largest size of the data disk, for example 60GiB; it can grow, but not shrink",
        Size(DISK_MIN, "is too small for an engine's data"),
        format_size,
        Effect.NOW,
    ),
    Setting("driver", "NAME", "auto, qemu or libvirt", Choice(_DRIVERS), effect=Effect.MADE),
    Setting("libvirt_uri", "URI", "libvirt connection, for example qemu:///session", Text()),
    Setting("accel", "NAME", "auto, kvm, hvf, whpx or tcg", Choice(_ACCELS)),
    Setting(
        "arch",
        "NAME",
        "auto (the image's own, or this computer's), amd64 or arm64; a foreign one is emulated, which is slow",
        Choice(("auto", "amd64", "arm64")),
        effect=Effect.MADE,
    ),
    Setting("engine", "NAME", "container engine: " + ", ".join(ENGINES), Choice(ENGINES), effect=Effect.MADE),
    Setting(
        "rootless",
        "BOOL",
        "an engine without root's rights in the guest; docker and podman, see docs/engines.md",
        Bool(),
        effect=Effect.MADE,
        option=False,
    ),
    Setting(
        "image",
        "REF",
        "guest image: a recipe's name, a digest, or a reference in a registry",
        Text(_image),
        effect=Effect.UPGRADE,
    ),
    Setting(
        "autostart",
        "BOOL",
        "start by itself when a forwarded command needs it",
        Bool(),
        effect=Effect.NOW,
        option=False,
    ),
    Setting(
        "idle",
        "MAP",
        "when and how an unused machine goes to sleep; the next command or docker client wakes it",
        _IDLE,
        IdleSettings.render,
        effect=Effect.NOW,
        option=False,
    ),
    Setting(
        "on_panic",
        "NAME",
        "restart or stop: what becomes of a machine whose kernel panics",
        Choice(("restart", "stop")),
        option=False,
    ),
    Setting("ports", "MAP", "published ports of containers", _PORTS, asdict, option=False),
    Setting(
        "mounts",
        "LIST",
        "folders of this computer in the guest",
        Mounts(),
        render_mounts,
        default="the home folder",
        option=False,
    ),
    Setting("proxy", "NAME", "host (its HTTP_PROXY and the like) or none", net.PROXY, option=False),
    Setting("ca", "FILE", "authorities to trust: host, none, or a PEM file", net.CA, option=False),
    Setting("ssh_agent", "BOOL", "show this computer's ssh agent in the guest", Bool(), option=False),
    Setting("names", "PORT", "port of this computer where container names answer, or off", net.NAMES, net.render_names),
    Setting(
        "emulate",
        "LIST",
        "containers' other architectures; `auto`: the other of amd64 and arm64, fetched when it is first wanted",
        EMULATE,
        render_emulate,
        option=False,
    ),
    Setting("network", "MAP", "the guest's network", net.NETWORK, dict, option=False),
    Setting("registries", "MAP", "registries of container images", net.REGISTRIES, dict, option=False),
    Setting(
        "daemon",
        "MAP",
        "the engine's own settings: of daemon.json, with podman of containers.conf",
        net.DAEMON,
        dict,
        option=False,
    ),
    Setting(
        "env",
        "MAP",
        "variables of the guest's shells, of commands run there, and of `provision` scripts",
        Variables(),
        dict,
        option=False,
    ),
    Setting("disks", "LIST", "further disks, kept in the machine's folder", Disks(), render_disks, option=False),
    Setting("provision", "LIST", "scripts that a start runs in the guest", Scripts(), render_scripts, option=False),
)
BY_KEY = {setting.key: setting for setting in SETTINGS}


def host_memory() -> int:
    """This computer's memory in bytes, whole MiB."""
    return _host_memory()


@cache
def _host_memory() -> int:
    return total_memory() // MIB * MIB


def default_spec() -> MachineSpec:
    """A machine that fits this computer: up to 4 processors, up to 4 GiB but at most half of the memory."""
    memory = max(min(4 * GIB, host_memory() // 2 // MIB * MIB), MEMORY_MIN)
    return MachineSpec(cpus=min(4, os.cpu_count() or 1), memory=memory, disk=60 * GIB)


def with_own_image(spec: MachineSpec) -> MachineSpec:
    """A new machine's settings: where no image was chosen, it is the engine's own, which has its name.

    :raises SpecError: the engine cannot be without root's rights.
    """
    if spec.rootless and spec.engine not in ROOTLESS:
        raise wrong_settings(
            [f"rootless: {spec.engine} needs root's rights; {' and '.join(sorted(ROOTLESS))} do not"], "of the machine"
        )
    return replace(spec, image=own_image(spec.engine, rootless=spec.rootless)) if spec.image == ENGINES[0] else spec


def parse_settings(values: Mapping[str, object], base: MachineSpec, origin: str) -> MachineSpec:
    """`base` with `values` over it; `origin` names where they came from, for the message.

    :raises SpecError: with every fault at once, one a line, each with its path.
    """
    changes, faults = read_settings(values)
    if faults:
        raise wrong_settings([f"{spell(fault.path)}: {fault.why}" for fault in faults], origin)
    return replace(base, **changes)


def read_settings(values: Mapping[str, object]) -> tuple[dict[str, Any], list[Fault]]:
    """What can be read of `values`, and all that cannot."""
    changes: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in values.items():
        setting = BY_KEY.get(key)
        if setting is None:
            faults.append(Fault((key,), f"unknown key; known ones are {', '.join(BY_KEY)}"))
            continue
        try:
            changes[key] = setting.kind.read(value)
        except WrongValueError as wrong:
            faults += wrong.below(key)
    return changes, faults


def parse_text(text: str, origin: str) -> MachineSpec:
    """The settings in a text like machine.yaml's; missing keys have their defaults.

    :raises SpecError: not YAML, not a mapping, or wrong settings: every fault with its line and path.
    """
    return replace(default_spec(), **text_settings(text, origin))


def text_settings(text: str, origin: str) -> dict[str, Any]:
    """The settings that a text names, read.

    :raises SpecError: as `parse_text`.
    """
    try:
        document = read_document(text)
    except DocumentError as fault:
        raise SpecError(f"{origin} cannot be read", str(fault), f"correct it in: {origin}") from None
    values = {} if document.values is None and not document.faults else document.values
    if not isinstance(values, dict):
        raise SpecError(f"{origin} is not a list of settings", "expected KEY: VALUE lines", f"correct it in: {origin}")
    changes, faults = read_settings(values)
    # A value that could not be read is None by now, and would be complained of once more.
    broken = {fault.path for fault in document.faults}
    faults = document.faults + [fault for fault in faults if fault.path not in broken]
    if faults:
        placed = sorted(((document.line(fault.path) or 0, fault) for fault in faults), key=lambda one: one[0])
        raise wrong_settings([f"line {line}: {_told(fault)}" for line, fault in placed], origin)
    return changes


def _told(fault: Fault) -> str:
    return f"{spell(fault.path)}: {fault.why}" if fault.path else fault.why


def wrong_settings(lines: Sequence[str], origin: str, resolution: str | None = None) -> SpecError:
    """One error for many faults, a line each."""
    where = "option" if origin == "command line" else "setting"
    usual = "see the known ones with: hostvm start --help" if where == "option" else f"correct it in: {origin}"
    return SpecError(
        f"{len(lines)} wrong {where}{'s' if len(lines) > 1 else ''} ({origin})", "\n".join(lines), resolution or usual
    )


def load_spec(path: Path) -> MachineSpec:
    """Read machine.yaml; missing keys have their defaults.

    :raises SpecError: unreadable, or as `parse_text`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SpecError(f"{path} cannot be read", str(fault), f"correct it in: {path}") from fault
    return parse_text(text, str(path))


def rendered_settings(spec: MachineSpec) -> dict[str, object]:
    """Every setting as it would be written, of plain values."""
    return {setting.key: setting.render(getattr(spec, setting.key)) for setting in SETTINGS}


def render_spec(spec: MachineSpec) -> str:
    """The text of machine.yaml; `load_spec` reads the same spec back."""
    rendered = rendered_settings(spec)
    assert set(rendered) == {one.name for one in fields(MachineSpec)}
    head = "# What this machine should be; a change takes effect at its next start.\n"
    return head + yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True)
