"""The engine's events, followed for as long as there is a connection to its guest."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, Stream

_AGAIN = 0.5
_EVENT_MOST = 1024 * 1024

FAULTS = (OSError, HostvmError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException)
"""Of an engine that is asked while it goes, and of an answer that is not as it should be."""


class EventFeed:
    """One service's subscription, begun anew whenever it breaks while the connection stands.

    :param name: of the service; for its thread and the log.
    :param filters: as GET /events takes them.
    """

    def __init__(self, name: str, socket: str, filters: Mapping[str, Sequence[str]]) -> None:
        self._name = name
        self._socket = socket
        self._query = {"filters": json.dumps(filters)}
        self._stopped = threading.Event()
        self._stream: Stream | None = None

    def start(
        self, guest: Guest, host: Host, hear: Callable[[dict[str, Any]], None], begun: Callable[[], None]
    ) -> None:
        """Call `hear` with each event, from a thread of its own, until `stop`.

        :param begun: called whenever a subscription stands, before its first event: whoever reads a list then misses
            nothing between the two. What it and `hear` raise of `FAULTS` is logged, and begins a new subscription.
        """
        self._stopped = stopped = threading.Event()  # a new one: threads of a former connection must stay stopped
        words = (guest, host, hear, begun, stopped)
        threading.Thread(target=self._follow, args=words, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """Hear no more."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()

    def _follow(
        self,
        guest: Guest,
        host: Host,
        hear: Callable[[dict[str, Any]], None],
        begun: Callable[[], None],
        stopped: threading.Event,
    ) -> None:
        def connect() -> Stream:
            self._stream = stream = guest.open_socket(self._socket)
            if stopped.is_set():
                stream.close()
            return stream

        while not stopped.is_set():
            try:
                with EngineApi(connect, "").open("GET", "/events", query=self._query) as events:
                    begun()
                    while line := events.readline(_EVENT_MOST):
                        if len(line) == _EVENT_MOST:
                            raise ValueError(f"an event of more than {_EVENT_MOST} bytes")
                        hear(json.loads(line))
            except FAULTS as fault:
                if not stopped.is_set():
                    host.log(f"{self._name}: {fault}".replace("\n", ": "))
            stopped.wait(_AGAIN)
