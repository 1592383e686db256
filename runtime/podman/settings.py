"""Podman's configuration files for one boot: over the image's, this computer's, then the user's.

Formats: containers.conf(5) and containers-registries.conf(5) of containers/common and containers/image.
"""

from __future__ import annotations

import json
import tomllib
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from hostvm.errors import SpecError
from hostvm.net.clash import clashes, free_pools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hostvm.net.plan import NetworkPlan
    from hostvm.spec import MachineSpec

_TABLES = ("containers", "engine", "network", "secrets", "machine", "farms")
_RESERVED = {
    ("engine", "cgroup_manager"): "the guest has no systemd",
    ("engine", "events_logger"): "the guest has no journal, and hostvm listens to the events",
    ("network", "network_config_dir"): "networks lie on the machine's disk",
    ("network", "network_backend"): "the guest has netavark",
}
_DOCKER_HUB = "docker.io"
_LOOPBACK = ("localhost", "127.0.0.1")
_OWN_NETWORKS = (IPv4Network("10.88.0.0/16"), IPv4Network("10.89.0.0/16"))
"""What Podman gives its default network, and the first of others."""


def check_tables(spec: MachineSpec) -> None:
    """Look through `daemon:` of machine.yaml.

    :raises SpecError: settings that hostvm needs otherwise, or that the format cannot hold.
    """
    faults = list(_faults(spec.daemon))
    if faults:
        raise SpecError(
            f"{len(faults)} wrong setting{'s' if len(faults) > 1 else ''} for the engine",
            "\n".join(faults),
            "correct daemon: in the machine's machine.yaml   # its folder: hostvm inspect",
        )


def containers_conf(spec: MachineSpec, plan: NetworkPlan) -> str:
    """containers.conf: what `daemon:` of machine.yaml says, table by table, over this computer's facts.

    :raises SpecError: see `check_tables`.
    """
    check_tables(spec)
    tables: dict[str, dict[str, Any]] = {"containers": {"host_containers_internal_ip": plan.network.gateway}}
    if any(clashes(network, plan.taken) for network in _OWN_NETWORKS):
        pools = free_pools(plan.taken)
        first, size = pools[0]
        tables["network"] = {
            "default_subnet": str(next(first.subnets(new_prefix=size))),
            "default_subnet_pools": [{"base": str(base), "size": size} for base, size in pools[1:] or pools],
        }
    for table, values in spec.daemon.items():
        tables[table] = {**tables.get(table, {}), **values}
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
        for table, values in tables.items()
    )


def registries_conf(spec: MachineSpec) -> str:
    """registries.conf: names without a registry are Docker Hub's, as with Docker; `registries:` of machine.yaml.

    :raises SpecError: a setting that the format cannot hold.
    """
    networks = [one for one in spec.registries.get("insecure", ()) if "/" in one]
    if networks:
        raise SpecError(
            f"registries.insecure: {', '.join(networks)}: Podman takes hosts, not networks",
            None,
            "name the registries in the machine's machine.yaml   # its folder: hostvm inspect",
        )
    mirrors = [urlsplit(url) for url in spec.registries.get("mirrors", ())]
    lines = [f'unqualified-search-registries = ["{_DOCKER_HUB}"]', 'short-name-mode = "permissive"']
    if "default" in spec.registries:
        instead = urlsplit(str(spec.registries["default"]))
        lines += ["", "[[registry]]", f'prefix = "{_DOCKER_HUB}"', f"location = {_toml(_place(instead))}"]
        lines += ["insecure = true"] * (instead.scheme == "http")
        mirrors = []
    elif mirrors:
        lines += ["", "[[registry]]", f'location = "{_DOCKER_HUB}"']
    for mirror in mirrors:
        lines += ["", "[[registry.mirror]]", f"location = {_toml(_place(mirror))}"]
        lines += ["insecure = true"] * (mirror.scheme == "http")
    # As Docker takes those on loopback: `hostvm registry` speaks plain HTTP there.
    for host in dict.fromkeys((*_LOOPBACK, *spec.registries.get("insecure", ()))):
        lines += ["", "[[registry]]", f"location = {_toml(host)}", "insecure = true"]
    return "\n".join(lines) + "\n"


def mirrored_conf(text: str, url: str) -> str:
    """registries.conf with the machine's own mirror of Docker Hub before all others.

    :param text: as `registries_conf` makes it.
    """
    conf = tomllib.loads(text)
    rows = conf.pop("registry", [])
    there = urlsplit(url)
    own = {"location": _place(there), **({"insecure": True} if there.scheme == "http" else {})}
    hub = [row for row in rows if _DOCKER_HUB in (row.get("prefix"), row["location"])] or [{"location": _DOCKER_HUB}]
    hub = [{**row, "mirror": [own, *row.get("mirror", ())]} for row in hub]
    others = [row for row in rows if _DOCKER_HUB not in (row.get("prefix"), row["location"])]
    tables = [["", "[[registry]]", *_pairs(row)] for row in (*hub, *others)]
    return "\n".join([*_pairs(conf), *(line for table in tables for line in table)]) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


def _place(url: SplitResult) -> str:
    return url.netloc + url.path.rstrip("/")


def _faults(daemon: Mapping[str, Any]) -> Iterator[str]:
    for table, values in daemon.items():
        if table not in _TABLES or not isinstance(values, dict):
            yield f"daemon.{table}: must be a table of containers.conf ({', '.join(_TABLES)}) with KEY: VALUE lines"
            continue
        for key, value in values.items():
            if (table, key) in _RESERVED:
                yield f"daemon.{table}.{key}: cannot be set: {_RESERVED[table, key]}"
            try:
                _toml(value)
            except ValueError as fault:
                yield f"daemon.{table}.{key}: {fault}"


def _toml(value: Any) -> str:
    """A value as TOML, whose texts, numbers, truths and lists are JSON's.

    :raises ValueError: TOML has no such value.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, str | bool | int | float):
        # Not in JSON's escapes: of letters beyond U+FFFF those are pairs, which TOML refuses.
        return json.dumps(value, ensure_ascii=False)
    raise ValueError(f"containers.conf cannot hold {value!r}")
