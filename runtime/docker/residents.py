"""Containers with a restart policy, which are to run again after their machine was stopped and started."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from runtime.docker.api import EngineApi

_POLICIES = ("always", "unless-stopped")
_SECONDS = 60.0
_PAUSE = 0.5


class ContainerResidents:
    """Those of one engine; see `hostvm.residents.Residents`."""

    def __init__(self, api: EngineApi, seconds: float = _SECONDS) -> None:
        self._api = api
        self._seconds = seconds
        self._names: dict[str, str] = {}

    def note(self) -> None:
        """Remember those that run now and restart by themselves."""
        running = self._api.call("GET", "/containers/json", query={"filters": json.dumps({"status": ["running"]})})
        for one in running:
            found = self._api.call("GET", f"/containers/{one['Id']}/json")
            if found["HostConfig"]["RestartPolicy"]["Name"] in _POLICIES:
                self._names[one["Id"]] = found["Name"].lstrip("/")

    def missing(self) -> list[str]:
        """Names of those that do not run within a minute."""
        deadline = time.monotonic() + self._seconds
        while (left := [name for ident, name in self._names.items() if not self._runs(ident)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(_PAUSE)
        return sorted(left)

    def _runs(self, ident: str) -> bool:
        try:
            state = self._api.call("GET", f"/containers/{ident}/json")["State"]
        except HostvmError:
            return False
        return bool(state["Running"]) and not state["Restarting"]
