"""What Podman's containers publish, told as Docker's API tells it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runtime.docker.ports import inspect_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runtime.docker.api import EngineApi


def look_at(api: EngineApi, ident: str) -> dict[str, Any]:
    """Facts of a container with the addresses that were asked for.

    Podman's Docker-compatible answer gives a publish without an address the address 0.0.0.0, as if the user had asked
    for every address of this computer. Its own list tells them apart.
    """
    facts = inspect_container(api, ident)
    rows = api.call("GET", "/libpod/containers/json", query={"filters": json.dumps({"id": [ident]})})
    asked = asked_bindings([port for row in rows or () for port in row.get("Ports") or ()])
    host = {**(facts.get("HostConfig") or {}), "PortBindings": asked}
    return {**facts, "HostConfig": host}


def asked_bindings(ports: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """Docker's `PortBindings` from `Ports` of Podman's own list: ranges of ports, with the address as it was typed."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        for protocol in str(port.get("protocol") or "tcp").split(","):
            for step in range(int(port.get("range") or 1)):
                key = f"{int(port['container_port']) + step}/{protocol}"
                one = {"HostIp": str(port.get("host_ip") or ""), "HostPort": str(int(port["host_port"]) + step)}
                found.setdefault(key, []).append(one)
    return found
