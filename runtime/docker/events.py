"""The engine's events, followed for as long as there is a connection to its guest.

One subscription serves all services: Podman's service breaks down the more often, the more there are.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, Stream

_AGAIN = 0.5
_EVENT_MOST = 1024 * 1024
_KEPT_MOST = 4096
"""Events that wait for a service that is busy; of more it hears no single one, and reads all anew."""

ODD = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""Of an answer that is not as it should be."""

FAULTS = (OSError, HostvmError, http.client.HTTPException, *ODD)
"""Those, and of an engine that is asked while it goes."""


class EngineEvents:
    """One engine's events, for all who want to hear of some.

    :param socket: of the engine, in the guest.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._wanted: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    def feed(self, name: str, filters: Mapping[str, Sequence[str]]) -> EventFeed:
        """One service's part of them; to be had before any is started.

        :param name: of the service; for its thread and the log.
        :param filters: as GET /events takes them: values of "type" and "event".
        """
        for key, values in filters.items():
            self._wanted.setdefault(key, set()).update(values)
        return EventFeed(self, name, filters)

    def join(self, hearer: Hearer, guest: Guest, host: Host) -> None:
        """Have it hear of the guest's events; the first of a connection begins to follow them."""
        with self._lock:
            reader = self._reader
            if reader is None or reader.guest is not guest:
                if reader is not None:
                    reader.stop()
                filters = {key: sorted(values) for key, values in self._wanted.items()}
                self._reader = reader = _Reader(self.socket, filters, guest, host)
            reader.join(hearer)

    def leave(self, hearer: Hearer) -> None:
        """Have it hear no more; the last one ends the subscription. Idempotent."""
        with self._lock:
            if self._reader is not None and self._reader.leave(hearer):
                self._reader.stop()
                self._reader = None


class EventFeed:
    """One service's events; made by `EngineEvents.feed`."""

    def __init__(self, events: EngineEvents, name: str, filters: Mapping[str, Sequence[str]]) -> None:
        self._events = events
        self._name = name
        self._filters = filters
        self._hearer: Hearer | None = None

    def start(
        self, guest: Guest, host: Host, hear: Callable[[dict[str, Any]], None], begun: Callable[[], None]
    ) -> None:
        """Call `hear` with each event, from a thread of its own, until `stop`. Nobody else waits for it.

        :param begun: called whenever a subscription stands, before its first event: whoever reads a list then misses
            nothing between the two. So it is after too many events at once, and some time after it or `hear` raised
            one of `FAULTS`, which is logged.
        """
        self._hearer = hearer = Hearer(self._name, self._filters, host, hear, begun)  # one that was stopped stays so
        threading.Thread(target=hearer.run, name=self._name, daemon=True).start()
        self._events.join(hearer, guest, host)

    def stop(self) -> None:
        """Hear no more."""
        if self._hearer is not None:
            self._hearer.stop()
            self._events.leave(self._hearer)


class Hearer:
    """A service that hears of events in its own time. See `EventFeed`."""

    def __init__(
        self,
        name: str,
        filters: Mapping[str, Sequence[str]],
        host: Host,
        hear: Callable[[dict[str, Any]], None],
        begun: Callable[[], None],
    ) -> None:
        self._name = name
        self._types, self._actions = frozenset(filters["type"]), frozenset(filters["event"])
        self._host = host
        self._hear = hear
        self._begun = begun
        self._changed = threading.Condition()
        self._kept: deque[dict[str, Any] | None] = deque()  # None: all is to be read anew
        self._stopped = threading.Event()

    def begin(self) -> None:
        """A subscription stands."""
        with self._changed:
            if not self._kept or self._kept[-1] is not None:
                self._kept.append(None)
            self._changed.notify()

    def put(self, event: dict[str, Any]) -> None:
        """Keep an event that the service wants, until it comes to it."""
        if event.get("Type") not in self._types or event.get("Action") not in self._actions:
            return
        with self._changed:
            if len(self._kept) >= _KEPT_MOST:
                self._kept.clear()
                self._kept.append(None)
            else:
                self._kept.append(event)
            self._changed.notify()

    def stop(self) -> None:
        """Let `run` end. Idempotent."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()

    def run(self) -> None:
        """Tell the service one after another, until `stop`."""
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                event = self._kept.popleft()
            try:
                if event is None:
                    self._begun()
                else:
                    self._hear(event)
            except FAULTS as fault:
                if self._stopped.is_set():
                    return
                self._host.log(f"{self._name}: {fault}".replace("\n", ": "))
                self._stopped.wait(_AGAIN)
                with self._changed:
                    self._kept.appendleft(None)


class _Reader:
    """The subscription by one connection to the guest, begun anew whenever it breaks while that stands."""

    def __init__(self, socket: str, filters: Mapping[str, Sequence[str]], guest: Guest, host: Host) -> None:
        self.guest = guest
        self._socket = socket
        self._query = {"filters": json.dumps(filters)}
        self._host = host
        self._lock = threading.Lock()
        self._hearers: list[Hearer] = []
        self._stands = False
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        threading.Thread(target=self._follow, name="engine-events", daemon=True).start()

    def join(self, hearer: Hearer) -> None:
        with self._lock:
            self._hearers.append(hearer)
            if self._stands:
                hearer.begin()

    def leave(self, hearer: Hearer) -> bool:
        """Whether nobody is left."""
        with self._lock:
            self._hearers = [one for one in self._hearers if one is not hearer]
            return not self._hearers

    def stop(self) -> None:
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()

    def _connect(self) -> Stream:
        self._stream = stream = self.guest.open_socket(self._socket)
        if self._stopped.is_set():
            stream.close()
        return stream

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                with EngineApi(self._connect, self._host.machine).open("GET", "/events", query=self._query) as events:
                    self._stand(stands=True)
                    while line := events.readline(_EVENT_MOST):
                        if len(line) == _EVENT_MOST:
                            raise ValueError(f"an event of more than {_EVENT_MOST} bytes")
                        self._tell(json.loads(line))
            except FAULTS as fault:
                if not self._stopped.is_set():
                    self._host.log(f"events: {fault}".replace("\n", ": "))
            self._stand(stands=False)
            self._stopped.wait(_AGAIN)

    def _stand(self, *, stands: bool) -> None:
        with self._lock:
            self._stands = stands
            for hearer in self._hearers if stands else ():
                hearer.begin()

    def _tell(self, event: dict[str, Any]) -> None:
        with self._lock:
            for hearer in self._hearers:
                hearer.put(event)
