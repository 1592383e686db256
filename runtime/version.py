"""Which version a machine's engine has, asked once a connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runtime.docker.api import EngineApi
from runtime.docker.events import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from hostvm.agent.service import Host
    from hostvm.guest import Guest

    Ask: TypeAlias = Callable[[Guest, str], str]
    """The version of the engine in the guest of the machine with that name."""


def api_version(socket: str) -> Ask:
    """Asks an engine's Docker-compatible API."""

    def ask(guest: Guest, machine: str) -> str:
        return str(EngineApi(lambda: guest.open_socket(socket), machine).call("GET", "/version")["Version"])

    return ask


class VersionService:
    """Implements `hostvm.agent.service.Service`."""

    name = "engine"
    early = False
    gives_way = True

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._version = ""

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        threading.Thread(target=self._look, args=(guest, host), name="version", daemon=True).start()

    def stop(self) -> None:
        """See `Service.stop`."""

    def describe(self) -> dict[str, Any]:
        """The version, as soon as it is known."""
        return {"version": self._version}

    def _look(self, guest: Guest, host: Host) -> None:
        try:
            self._version = self._ask(guest, host.machine)
        except FAULTS as fault:
            host.log(f"engine: {fault}".replace("\n", ": "))
