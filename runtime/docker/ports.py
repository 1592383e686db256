"""Published ports of containers on the host: watched through the engine's events, not by scanning listeners.

With the userland proxy off there is no listener in the guest to scan, and events tell exactly which container
published what.
"""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, Stream

LOOPBACK = "127.0.0.1"
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, never bound
_EVENTS = {"type": ["container"], "event": ["start", "die", "destroy"]}


@dataclass(frozen=True, slots=True)
class Publication:
    """One published TCP port: host address and port here, address and port inside the guest there."""

    host: str
    port: int
    guest_host: str
    guest_port: int


def publications(container: dict[str, Any]) -> frozenset[Publication]:
    """What one entry of GET /containers/json publishes over TCP.

    The engine's wildcard becomes the host's loopback: nothing of a container is shown to the network unasked.
    A publish on the guest's own loopback is reached there, which ssh can and slirp cannot.
    """
    found = set()
    for port in container.get("Ports") or []:
        public = port.get("PublicPort")
        address = port.get("IP", "")
        if not public or port.get("Type") != "tcp" or address == "::":
            continue  # "::" repeats the IPv4 wildcard
        host = LOOPBACK if address in _ANY else address
        found.add(Publication(host, public, LOOPBACK, public))
    return frozenset(found)


class PortService:
    """Keeps the host's listeners equal to what running containers publish."""

    name = "ports"

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._lock = threading.Lock()
        self._open: dict[Publication, str] = {}
        self._failed: dict[Publication, str] = {}
        self._events: Stream | None = None
        self._stopped = threading.Event()

    def start(self, guest: Guest, host: Host) -> None:
        """Begin to watch; ports of containers that run already are opened first."""
        self._stopped = threading.Event()  # a new one: the thread of a former connection must stay stopped
        self._guest, self._host = guest, host
        threading.Thread(target=self._watch, args=(self._stopped,), name="ports", daemon=True).start()

    def stop(self) -> None:
        """Close every listener."""
        self._stopped.set()
        with self._lock:
            if self._events is not None:
                self._events.close()
            self._apply({})

    def describe(self) -> dict[str, Any]:
        """Open ports and those that could not be opened, with the container's name and why."""
        with self._lock:
            return {
                "open": [_row(pub, name) for pub, name in sorted(self._open.items(), key=lambda kv: kv[0].port)],
                "failed": [{**_row(pub, ""), "why": why} for pub, why in self._failed.items()],
            }

    def _watch(self, stopped: threading.Event) -> None:
        api = EngineApi(self._connect_events, "")
        while not stopped.is_set():
            try:
                query = {"filters": json.dumps(_EVENTS)}
                with api.open("GET", "/events", query=query) as response:
                    # The subscription stands before the list is read, so no container slips between the two.
                    self._refresh(stopped)
                    for _ in _lines(response):
                        self._refresh(stopped)
            except (OSError, HostvmError, ValueError, http.client.HTTPException) as fault:
                if not stopped.is_set():
                    self._host.log(f"ports: {fault}".replace("\n", ": "))
            stopped.wait(0.5)

    def _connect_events(self) -> Stream:
        stream = self._guest.open_socket(self._socket)
        with self._lock:
            self._events = stream
        return stream

    def _refresh(self, stopped: threading.Event) -> None:
        api = EngineApi(lambda: self._guest.open_socket(self._socket), "")
        wanted: dict[Publication, str] = {}
        for container in api.call("GET", "/containers/json"):
            name = str((container.get("Names") or ["/?"])[0]).lstrip("/")
            wanted.update(dict.fromkeys(publications(container), name))
        with self._lock:
            if not stopped.is_set():
                self._apply(wanted)

    def _apply(self, wanted: dict[Publication, str]) -> None:
        for pub in set(self._open) - set(wanted):
            del self._open[pub]
            self._host.close_port(pub.host, pub.port)
            self._host.log(f"ports: closed {pub.host}:{pub.port}")
        for pub in set(self._failed) - set(wanted):
            del self._failed[pub]
        for pub, name in wanted.items():
            if pub in self._open:
                continue
            try:
                self._host.open_port(pub.host, pub.port, pub.guest_host, pub.guest_port)
            except OSError as fault:
                if pub not in self._failed:
                    self._host.log(f"ports: {name} wants {pub.host}:{pub.port}, which cannot be opened: {fault}")
                self._failed[pub] = str(fault)
                continue
            self._failed.pop(pub, None)
            self._open[pub] = name
            self._host.log(f"ports: opened {pub.host}:{pub.port} for {name}")


def _row(pub: Publication, name: str) -> dict[str, Any]:
    return {"container": name, "host": f"{pub.host}:{pub.port}", "guest": f"{pub.guest_host}:{pub.guest_port}"}


def _lines(response: Any) -> Iterator[bytes]:
    while line := response.readline():
        yield line
