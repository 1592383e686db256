"""Which container a host name means, from the engine's list of those that run."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from hostvm.names.route import Target
from runtime.docker.api import EngineApi, EngineApiError, path_part
from runtime.docker.published import address_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from hostvm.guest import Guest

    LookAt: TypeAlias = Callable[[str], dict[str, Any]]

PORT_LABEL = "hostvm.http.port"
_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_DEFAULT_PORT = 80
_LOOPBACK = "127.0.0.1"


def pick(containers: Iterable[dict[str, Any]], labels: Sequence[str], machine: str, look_at: LookAt) -> Target | None:
    """The target of `labels`, the name's parts before the domain; entries are those of GET /containers/json.

    One label is a container's name, or PROJECT-SERVICE of compose; two are SERVICE and PROJECT, or a container's name
    and its machine. Of a service's containers it is the one whose name comes first.

    :param look_at: what GET /containers/ID/json tells of one, {} when it is not to be had.
    """
    wanted, listed = [label.lower() for label in labels], list(containers)
    for container, address in _reachable(listed):
        if wanted in _spellings(container, machine):
            return Target(address, http_port(container, listed, look_at))
    return None


def http_port(container: dict[str, Any], listed: Sequence[dict[str, Any]], look_at: LookAt) -> int:
    """The label's port, else the one TCP port that it exposes, else 80.

    One with the network of another that has no label and exposes nothing answers where that other does. The list knows
    what is exposed for those with networks of their own alone.

    :param listed: those that run.
    """
    for _ in listed:  # that other one may have a third one's
        named = str((container.get("Labels") or {}).get(PORT_LABEL, ""))
        if named.isascii() and named.isdecimal():
            return int(named)
        ports = {int(port["PrivatePort"]) for port in container.get("Ports") or [] if port.get("Type") == "tcp"}
        joined = None
        if _network(container)[0] in ("host", "container"):  # Podman's list says "host" of all
            facts = look_at(str(container.get("Id", "")))
            kind, other = _network(facts or container)
            joined = next((one for one in listed if kind == "container" and _is_named(one, other)), None)
            ports = _exposed(facts) or (ports if joined is None else set())
        if ports or joined is None:
            return ports.pop() if len(ports) == 1 else _DEFAULT_PORT
        container = joined
    return _DEFAULT_PORT


def _exposed(facts: dict[str, Any]) -> set[int]:
    """TCP ports that a container exposes, or publishes, which not every client writes down as exposed."""
    exposed = (facts.get("Config") or {}).get("ExposedPorts") or {}
    published = (facts.get("HostConfig") or {}).get("PortBindings") or {}
    found = (str(key).partition("/") for key in (*exposed, *published))
    return {int(number) for number, _, protocol in found if number.isdecimal() and protocol in ("tcp", "")}


def _network(container: dict[str, Any]) -> tuple[str, str]:
    """The kind of its network, and whose it is for one of another container."""
    kind, _, other = str((container.get("HostConfig") or {}).get("NetworkMode", "")).partition(":")
    return kind, other


def _name(container: dict[str, Any]) -> str:
    return str((container.get("Names") or ["/?"])[0]).lstrip("/")


def _spellings(container: dict[str, Any], machine: str) -> list[list[str]]:
    names = [str(name).lstrip("/").lower() for name in container.get("Names") or [] if str(name).count("/") == 1]
    labels = container.get("Labels") or {}
    found = [spelling for name in names for spelling in (name.split("."), [*name.split("."), machine])]
    if _PROJECT in labels and _SERVICE in labels:
        project, service = str(labels[_PROJECT]).lower(), str(labels[_SERVICE]).lower()
        found += [[service, project], [f"{project}-{service}"]]
    return found


def _reachable(containers: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Those that have a network, in the order of their names, and their addresses."""
    listed = sorted(containers, key=_name)
    return [(container, address) for container in listed if (address := _address(container, listed))]


def _address(container: dict[str, Any], listed: Sequence[dict[str, Any]]) -> str | None:
    """Where it is reached; None for one without a network (`--network none`).

    One with the network of another (`--network container:X`) has none of its own in dockerd's list, and the other's
    in Podman's, which says "host" of all.

    :param listed: those that run.
    """
    for _ in listed:  # that other one may have a third one's
        networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
        if found := address_in([facts for _, facts in sorted(networks.items())]):
            return found
        kind, other = _network(container)
        if kind != "container":
            return None if "none" in (kind, *networks) else _LOOPBACK  # else: the guest's own network
        named = next((one for one in listed if _is_named(one, other)), None)
        if named is None:
            return None
        container = named
    return None


def _is_named(container: dict[str, Any], name: str) -> bool:
    """Whether docker's commands would take `name` for it: its name, its id or the beginning of that."""
    return name == _name(container) or (bool(name) and str(container.get("Id", "")).startswith(name))


class EngineRouter:
    """Implements `hostvm.names.route.Router`: asks the engine each time, so that no answer is ever old."""

    def __init__(self, socket: str, machine: str) -> None:
        self._socket = socket
        self._machine = machine

    def find(self, guest: Guest, labels: Sequence[str]) -> Target | None:
        """See `Router.find`."""
        api = self._api(guest)

        def look_at(ident: str) -> dict[str, Any]:
            try:
                found: dict[str, Any] = api.call("GET", f"/containers/{path_part(ident)}/json")
            except EngineApiError:  # it has ended since it was listed
                return {}
            return found

        return pick(self._running(guest), labels, self._machine, look_at)

    def names(self, guest: Guest) -> list[str]:
        """See `Router.names`."""
        return sorted(_name(container).lower() for container, _ in _reachable(self._running(guest)))

    def _api(self, guest: Guest) -> EngineApi:
        return EngineApi(lambda: guest.open_socket(self._socket), self._machine)

    def _running(self, guest: Guest) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self._api(guest).call("GET", "/containers/json")
        except (HostvmError, ValueError, http.client.HTTPException) as fault:
            raise ConnectionError(str(fault)) from fault
        return found
