"""What the user wants of a machine: `machine.yaml`, the options of `start` and `create`, and their defaults.

A setting is declared once, in `SETTINGS`; the file's keys, the command's options and their help follow from it.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import yaml

from hostvm.errors import SpecError
from hostvm.net import settings as net
from hostvm.shares.model import Mount, default_mounts, parse_mounts, render_mounts
from hostvm.sizes import GIB, MIB, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MEMORY_MIN = 512 * MIB
DISK_MIN = 2 * GIB
ENGINES = ("docker",)


@dataclass(frozen=True, slots=True)
class PortSettings:
    """`ports:` in machine.yaml.

    :param expose: where a publish without an address, `-p 8080:80`, is to be reached: loopback or lan.
    """

    expose: str = "loopback"


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Wanted, never observed. `memory` and `disk` are bytes."""

    cpus: int
    memory: int
    disk: int
    driver: str = "auto"
    libvirt_uri: str = ""
    accel: str = "auto"
    engine: str = "docker"
    image: str = "docker"
    autostart: bool = True
    ports: PortSettings = PortSettings()
    mounts: tuple[Mount, ...] = field(default_factory=default_mounts)
    proxy: str = net.HOST
    ca: str = net.HOST
    ssh_agent: bool = True
    names: int = net.NAMES_PORT
    network: Mapping[str, str] = field(default_factory=lambda: {"subnet": net.AUTO})
    registries: Mapping[str, Sequence[str]] = field(default_factory=dict)
    daemon: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of machine.yaml.

    :param parse: raises ValueError with a reason that reads after "KEY: VALUE".
    """

    key: str
    metavar: str
    help: str
    parse: Callable[[object], Any]
    render: Callable[[Any], object] = lambda value: value
    option: bool = True


def _parse_cpus(value: object) -> int:
    try:
        cpus = int(str(value))
    except ValueError:
        raise ValueError("is not a whole number") from None
    host = os.cpu_count() or 1
    if not 1 <= cpus <= host:
        raise ValueError(f"must be from 1 to {host}, the processors of this computer")
    return cpus


def _parse_memory(value: object) -> int:
    size = parse_size(value)
    host = host_memory()
    if size < MEMORY_MIN:
        raise ValueError(f"is too little for a guest with an engine; the least is {format_size(MEMORY_MIN)}")
    if size > host:
        raise ValueError(f"is more than this computer has ({format_size(host)})")
    return size


def _parse_disk(value: object) -> int:
    size = parse_size(value)
    if size < DISK_MIN:
        raise ValueError(f"is too small for an engine's data; the least is {format_size(DISK_MIN)}")
    return size


class _OneOf:
    """Parses a value that must be one of some words; they are known to completion."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: object) -> str:
        if value not in self.choices:
            raise ValueError(f"must be one of: {', '.join(self.choices)}")
        return str(value)


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - parsers speak through ValueError alone
    return value


def _parse_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - see above
    return value


def _parse_ports(value: object) -> PortSettings:
    if not isinstance(value, dict) or set(value) - {"expose"}:
        raise ValueError("must be a mapping with the key: expose")
    return PortSettings(_OneOf("loopback", "lan")(value.get("expose", "loopback")))


SETTINGS = (
    Setting("cpus", "N", "virtual processors", _parse_cpus),
    Setting("memory", "SIZE", "memory, for example 4GiB", _parse_memory, format_size),
    Setting("disk", "SIZE", "largest size of the data disk, for example 60GiB", _parse_disk, format_size),
    Setting("driver", "NAME", "auto, qemu or libvirt", _OneOf("auto", "qemu", "libvirt")),
    Setting("libvirt_uri", "URI", "libvirt connection, for example qemu:///session", _parse_text),
    Setting("accel", "NAME", "auto, kvm, hvf, whpx or tcg", _OneOf("auto", "kvm", "hvf", "whpx", "tcg")),
    Setting("engine", "NAME", "container engine: " + ", ".join(ENGINES), _OneOf(*ENGINES)),
    Setting("image", "REF", "guest image: a recipe's name, a digest, or a reference in a registry", _parse_text),
    Setting("autostart", "BOOL", "start by itself when a forwarded command needs it", _parse_bool, option=False),
    Setting("ports", "MAP", "expose: loopback or lan, for `-p` without an address", _parse_ports, asdict, option=False),
    Setting("mounts", "LIST", "folders of this computer in the guest", parse_mounts, render_mounts, option=False),
    Setting("proxy", "NAME", "host (its HTTP_PROXY and the like) or none", _OneOf(net.HOST, net.NONE), option=False),
    Setting("ca", "FILE", "authorities to trust: host, none, or a PEM file", net.parse_ca, option=False),
    Setting("ssh_agent", "BOOL", "show this computer's ssh agent in the guest", _parse_bool, option=False),
    Setting(
        "names", "PORT", "port of this computer where container names answer, or off", net.parse_names, net.render_names
    ),
    Setting("network", "MAP", "the guest's network: {subnet: auto}", net.parse_network, dict, option=False),
    Setting("registries", "MAP", "{mirrors: [URL], insecure: [HOST:PORT]}", net.parse_registries, dict, option=False),
    Setting("daemon", "MAP", "settings for the engine's daemon.json", net.parse_daemon, dict, option=False),
)


def host_memory() -> int:
    """This computer's memory in bytes, whole MiB."""
    import psutil

    return int(psutil.virtual_memory().total) // MIB * MIB


def default_spec() -> MachineSpec:
    """A machine that fits this computer: up to 4 processors, up to 4 GiB but at most half of the memory."""
    memory = max(min(4 * GIB, host_memory() // 2 // MIB * MIB), MEMORY_MIN)
    return MachineSpec(cpus=min(4, os.cpu_count() or 1), memory=memory, disk=60 * GIB)


def parse_settings(values: Mapping[str, object], base: MachineSpec, origin: str) -> MachineSpec:
    """`base` with `values` over it; `origin` names where they came from, for the message.

    :raises SpecError: with every fault at once, one a line.
    """
    known = {setting.key: setting for setting in SETTINGS}
    faults: list[str] = []
    changes: dict[str, Any] = {}
    for key, value in values.items():
        setting = known.get(key)
        if setting is None:
            faults.append(f"{key}: unknown key; known ones are {', '.join(known)}")
            continue
        try:
            changes[key] = setting.parse(value)
        except ValueError as fault:
            faults.append(f"{key}: {value} {fault}")
    if faults:
        where = "option" if origin == "command line" else "setting"
        raise SpecError(
            f"{len(faults)} wrong {where}{'s' if len(faults) > 1 else ''} ({origin})",
            "\n".join(faults),
            "see the known ones with: hostvm start --help" if where == "option" else f"correct it in: {origin}",
        )
    return replace(base, **changes)


def load_spec(path: Path) -> MachineSpec:
    """Read machine.yaml; missing keys have their defaults.

    :raises SpecError: unreadable, not YAML, not a mapping, or wrong settings.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise SpecError(f"{path} cannot be read", str(fault), f"correct it in: {path}") from fault
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(f"{path} is not a list of settings", "expected KEY: VALUE lines", f"correct it in: {path}")
    return parse_settings({str(key): value for key, value in data.items()}, default_spec(), str(path))


def render_spec(spec: MachineSpec) -> str:
    """The text of machine.yaml; `load_spec` reads the same spec back."""
    rendered = {setting.key: setting.render(getattr(spec, setting.key)) for setting in SETTINGS}
    assert set(rendered) == {one.name for one in fields(MachineSpec)}
    head = "# What this machine should be; a change takes effect at its next start.\n"
    return head + yaml.safe_dump(rendered, sort_keys=False)


_MOUNTS_BLOCK = re.compile(r"^mounts:[^\n]*\n(?:(?:[ \t-][^\n]*)?\n)*", re.MULTILINE)


def replace_mounts(text: str, mounts: tuple[Mount, ...]) -> str:
    """machine.yaml with other mounts; every other line, a person's comments too, stays as it is."""
    block = yaml.safe_dump({"mounts": render_mounts(mounts)}, sort_keys=False, allow_unicode=True)
    text = text if text.endswith("\n") or not text else text + "\n"
    if _MOUNTS_BLOCK.search(text):
        return _MOUNTS_BLOCK.sub(lambda _: block, text, count=1)
    return text + block
