"""Which folders of the guest running containers have as bind mounts, told whenever it changes."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, Stream

_EVENTS = {"type": ["container"], "event": ["start", "die", "destroy"]}


def bind_sources(containers: Iterable[dict[str, Any]]) -> set[str]:
    """The sources of all bind mounts in the answer to GET /containers/json."""
    mounts = [mount for container in containers for mount in container.get("Mounts") or []]
    return {str(mount["Source"]) for mount in mounts if mount.get("Type") == "bind" and mount.get("Source")}


class BindService:
    """Implements `hostvm.agent.service.Service`.

    :param tell: called with all sources after each change, from a thread of this service.
    """

    name = "binds"
    early = False

    def __init__(self, socket: str, tell: Callable[[set[str]], None]) -> None:
        self._socket = socket
        self._tell = tell
        self._stopped = threading.Event()
        self._events: Stream | None = None

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        self._stopped = threading.Event()
        worker = threading.Thread(target=self._watch, args=(guest, host, self._stopped), name="binds", daemon=True)
        worker.start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()
        if self._events is not None:
            self._events.close()

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`."""
        return {}

    def _watch(self, guest: Guest, host: Host, stopped: threading.Event) -> None:
        def connect() -> Stream:
            self._events = guest.open_socket(self._socket)
            return self._events

        asking = EngineApi(lambda: guest.open_socket(self._socket), "")
        while not stopped.is_set():
            try:
                with EngineApi(connect, "").open("GET", "/events", query={"filters": json.dumps(_EVENTS)}) as events:
                    # The subscription stands before the list is read, so no container slips between the two.
                    self._tell(bind_sources(asking.call("GET", "/containers/json")))
                    while events.readline():
                        self._tell(bind_sources(asking.call("GET", "/containers/json")))
            except (OSError, HostvmError, ValueError, http.client.HTTPException) as fault:
                if not stopped.is_set():
                    host.log(f"binds: {fault}".replace("\n", ": "))
            stopped.wait(0.5)
