"""What containers and services publish, as forwards of this computer's ports: pure functions of the engine's answers.

The engine runs in the guest, so an address it was asked to bind is taken to mean this computer's: `-p 8080:80` is
loopback (or every address, with `ports: {expose: lan}`), `-p 0.0.0.0:8080:80` every address, `-p ADDRESS:8080:80`
that address.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from hostvm.agent.service import PortForward

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

LOOPBACK4, LOOPBACK6 = "127.0.0.1", "::1"
ANY4, ANY6 = "0.0.0.0", "::"  # noqa: S104 - bound only when the user asked for it
_PORT_MOST = 65535
_ANY = {ANY4: ANY4, ANY6: ANY6}
_LOOPBACK = {ANY4: LOOPBACK4, ANY6: LOOPBACK6}


def default_addresses(expose: str) -> dict[str, str]:
    """What the guest's wildcards mean here when no address was asked for.

    :param expose: loopback or lan.
    """
    return _ANY if expose == "lan" else _LOOPBACK


def container_forwards(facts: Mapping[str, Any], expose: str, *, reached: bool = True) -> frozenset[PortForward]:
    """What one container publishes.

    :param facts: of GET /containers/ID/json: what was bound is in NetworkSettings, what was asked in HostConfig.
    :param reached: whether containers' own addresses can be reached from the guest.
    :raises Exception: one of `runtime.docker.events.ODD`: they are not as an engine tells them.
    """
    asked: dict[str, list[dict[str, str]]] = (facts.get("HostConfig") or {}).get("PortBindings") or {}
    settings = facts.get("NetworkSettings") or {}
    inside = address_in((settings.get("Networks") or {}).values()) if reached else ""
    defaults = default_addresses(expose)
    found = set()
    for key, bindings in (settings.get("Ports") or {}).items():
        number, _, protocol = key.partition("/")
        if protocol not in ("tcp", "udp"):
            continue  # sctp: neither ssh nor the hypervisor's network carries it
        for binding in bindings or ():
            address, port = binding.get("HostIp") or ANY4, _port(binding.get("HostPort") or 0)
            if not port:
                continue
            ipaddress.ip_address(address)
            if address in _ANY:
                explicit = _was_asked(asked.get(key) or (), address, port)
                host = address if explicit else defaults[address]
                if not (explicit and address == ANY6):
                    found.add(PortForward(protocol, host, port, LOOPBACK4, port))
                    continue
                there = LOOPBACK6  # the guest listens on IPv6 alone, which only ssh reaches
            else:
                there = address if _is_loopback(address) else ""
            # ssh carries no UDP: that needs the container's own address everywhere, see detours.py.
            if there and (protocol == "tcp" or not inside):
                found.add(PortForward(protocol, address, port, there, port, outside=False))
            elif inside:
                found.add(PortForward(protocol, address, port, inside, _port(number), outside=False))
    return frozenset(found)


def service_forwards(services: Iterable[Mapping[str, Any]], expose: str) -> dict[PortForward, str]:
    """What a swarm's services publish through its routing mesh, with each service's name.

    Ports published with mode=host belong to the tasks' containers.

    :raises Exception: as `container_forwards`.
    """
    found = {}
    for service in services:
        name = str((service.get("Spec") or {}).get("Name", "?"))
        for port in (service.get("Endpoint") or {}).get("Ports") or ():
            public, protocol = _port(port.get("PublishedPort") or 0), port.get("Protocol", "tcp")
            if not public or port.get("PublishMode") == "host" or protocol not in ("tcp", "udp"):
                continue
            for host in default_addresses(expose).values():
                found[PortForward(protocol, host, public, LOOPBACK4, public)] = name
    return found


def uses_host_network(facts: Mapping[str, Any]) -> bool:
    """Whether a container shares the guest's own network."""
    return (facts.get("HostConfig") or {}).get("NetworkMode") == "host"


def _port(told: object) -> int:
    """:raises ValueError: it can be none. Of text and numbers alone: who binds it gets nothing else."""
    if isinstance(told, (str, int)) and 0 <= int(told) <= _PORT_MOST:
        return int(told)
    raise ValueError(f"{told!r} is no port")


def _was_asked(bindings: Iterable[Mapping[str, str]], address: str, port: int) -> bool:
    """Whether this wildcard was named by the user for this port, rather than being the engine's default."""
    named = [one for one in bindings if _covers(str(one.get("HostPort") or ""), port)]
    exact = [one for one in named if one.get("HostPort") == str(port)] or named
    return bool(exact) and all(one.get("HostIp") == address for one in exact)


def _covers(asked: str, port: int) -> bool:
    first, _, last = asked.partition("-")
    try:
        return not int(first or 0) or int(first) <= port <= int(last or first)
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == LOOPBACK6


def address_in(networks: Collection[Mapping[str, Any]]) -> str:
    """A container's address inside the guest, "" without: the first IPv4, else the first IPv6.

    :param networks: what its NetworkSettings tell of each.
    """
    found = (network.get(kind) for kind in ("IPAddress", "GlobalIPv6Address") for network in networks)
    return next((str(address) for address in found if address), "")
