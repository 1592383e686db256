"""Which folders of the guest running containers have as bind mounts, told whenever it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hostvm.agent.service import Host
    from hostvm.guest import Guest
    from runtime.docker.events import EngineEvents

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
    gives_way = True

    def __init__(self, events: EngineEvents, tell: Callable[[set[str]], None]) -> None:
        self._socket = events.socket
        self._tell = tell
        self._feed = events.feed(self.name, _EVENTS)

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        asking = EngineApi(lambda: guest.open_socket(self._socket), host.machine)

        def tell() -> None:
            self._tell(bind_sources(asking.call("GET", "/containers/json")))

        self._feed.start(guest, host, lambda _: tell(), tell)

    def stop(self) -> None:
        """See `Service.stop`."""
        self._feed.stop()

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`."""
        return {}
