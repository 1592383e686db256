"""Health checks of Podman's containers: Podman leaves them to systemd's timers, and the guest has no systemd."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.docker.api import EngineApi, EngineApiError
from runtime.docker.events import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Host
    from hostvm.guest import Guest
    from runtime.docker.events import EngineEvents

_EVENTS = {"type": ["container"], "event": ["start", "die", "destroy", "unpause"]}
_TICK = 1.0
_REST = 5.0
_NANO = 1e9
_OVER = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT)
"""What Podman answers for a container that is gone, does not run, or has no check."""


@dataclass(slots=True)
class _Check:
    """One container's: seconds between two checks, also before its start-up check has passed, and when it is due."""

    interval: float
    first: float
    due: float


class Checks:
    """Which container is to be checked when. As with Podman's timers: at its start, then some time after each check.

    :param spawn: runs a function in a thread of its own; RuntimeError when there can be none.
    """

    def __init__(
        self, api: EngineApi, spawn: Callable[[Callable[[], None]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._spawn = spawn
        self._clock = clock
        self._lock = threading.Condition()
        self._seen: dict[str, _Check | None] = {}  # None: it has none
        self._busy: set[str] = set()

    def look(self, begun: str = "") -> None:
        """Read which containers run.

        :param begun: id of one that has just started: what is known of it was of its former life.
        :raises HostvmError: the engine does not answer.
        """
        rows = self._api.call("GET", "/libpod/containers/json") or ()
        running = {str(row["Id"]) for row in rows}
        with self._lock:
            self._seen = {ident: one for ident, one in self._seen.items() if ident in running and ident != begun}
            new = running - set(self._seen)
        for ident in sorted(new):
            check = self._read(ident)
            with self._lock:
                self._seen[ident] = check
                self._lock.notify_all()

    def wait(self, timeout: float) -> bool:
        """Return when there is a container with a check, or after `timeout` seconds: False then."""
        with self._lock:
            return self._lock.wait_for(lambda: any(one is not None for one in self._seen.values()), timeout)

    def begin_due(self) -> None:
        """Begin each check that is due; one that still goes on is not begun once more."""
        now = self._clock()
        with self._lock:
            due = [
                (ident, one)
                for ident, one in self._seen.items()
                if one is not None and one.due <= now and ident not in self._busy
            ]
            self._busy |= {ident for ident, _ in due}
        for ident, check in due:
            try:
                self._spawn(lambda ident=ident, check=check: self._ask(ident, check))  # type: ignore[misc]
            except RuntimeError:  # no thread can be had: it stays due
                with self._lock:
                    self._busy.discard(ident)

    def _read(self, ident: str) -> _Check | None:
        try:
            facts = self._api.call("GET", f"/libpod/containers/{ident}/json")
        except EngineApiError as fault:
            if fault.status in _OVER:
                return None
            raise
        config = facts.get("Config") or {}
        wanted = config.get("Healthcheck") or {}
        test = wanted.get("Test") or ["NONE"]
        interval = (wanted.get("Interval") or 0) / _NANO
        if test[0] in ("", "NONE") or interval <= 0:  # Podman's "disable" is 0
            return None
        first = ((config.get("StartupHealthCheck") or {}).get("Interval") or 0) / _NANO
        return _Check(interval, first or interval, self._clock())

    def _ask(self, ident: str, check: _Check) -> None:
        """Let Podman check once, which it keeps with the container."""
        pause, over = check.interval, False
        try:
            told = self._api.call("GET", f"/libpod/containers/{ident}/healthcheck") or {}
            if told.get("Status") == "starting":
                pause = check.first
        except EngineApiError as fault:
            over = fault.status in _OVER
        except FAULTS:
            pass  # a check that took too long, too, which is kept all the same
        with self._lock:
            self._busy.discard(ident)
            check.due = self._clock() + pause
            if over and self._seen.get(ident) is check:
                del self._seen[ident]


class HealthService:
    """Implements `hostvm.agent.service.Service`."""

    name = "health"
    early = False

    def __init__(self, events: EngineEvents) -> None:
        self._socket = events.socket
        self._stopped = threading.Event()
        self._feed = events.feed(self.name, _EVENTS)

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        self._stopped = stopped = threading.Event()
        checks = Checks(EngineApi(lambda: guest.open_socket(self._socket), host.machine), _spawn)
        threading.Thread(target=self._tick, args=(checks, stopped), name="health", daemon=True).start()
        self._feed.start(guest, host, lambda event: checks.look(_started(event)), checks.look)

    def stop(self) -> None:
        """See `Service.stop`. A check that goes on ends with the connection."""
        self._stopped.set()
        self._feed.stop()

    def describe(self) -> dict[str, Any]:
        """See `Service.describe`."""
        return {}

    def _tick(self, checks: Checks, stopped: threading.Event) -> None:
        """Each second while there is a container with a check."""
        while not stopped.is_set():
            if checks.wait(_REST):
                checks.begin_due()
                stopped.wait(_TICK)


def _started(event: dict[str, Any]) -> str:
    return str((event.get("Actor") or {}).get("ID") or "") if event.get("Action") == "start" else ""


def _spawn(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="health-check", daemon=True).start()
