"""Gives back to the computer what the guest needs no more: disk room of what was deleted, memory of what has ended."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from hostvm.machines.trim import TRIM
from runtime.docker.api import EngineApi

if TYPE_CHECKING:
    from hostvm.agent.service import Host
    from hostvm.guest import Guest
    from runtime.docker.events import EngineEvents

# Podman compares these with its own names, for which of Docker's only "die" may stand: what it tells of as the `delete`
# of an image is asked for as `remove`, and so are containers and volumes (podman, libpod/events/filters.go).
_EVENTS = {
    "type": ["image", "container", "volume", "builder"],
    "event": ["delete", "die", "destroy", "prune", "remove"],
}
FIRST = 60.0
"""Seconds from a connection to the first trim: of what was deleted before, and for the later ones to be quick."""

WEEK = 7 * 24 * 3600.0
"""Seconds between two trims where nothing is heard of: files that are deleted in containers and volumes."""

QUIET = 10.0
"""Seconds without another such event before something is done: `docker system prune` tells of each thing it deletes."""

_TICK = 2.0
_SECONDS = 120.0

# A container's cached files are its parent group's when it has ended; those of the guest's own programs are spared.
_RECLAIM = """\
group=/sys/fs/cgroup/$1
[ -w $group/memory.reclaim ] || exit 0
read -r size < $group/memory.current
[ "$size" -lt 4194304 ] || echo "$size" 2> /dev/null > $group/memory.reclaim || true
"""


class Plan:
    """When to do what. Times are of `time.monotonic`."""

    def __init__(self, now: float) -> None:
        self.trim = now + FIRST
        self.reclaim = float("inf")

    def hear(self, action: str, now: float) -> None:
        """An event of the engine."""
        if action == "die":
            self.reclaim = now + QUIET
        else:
            self.trim = now + QUIET

    def trimmed(self, now: float) -> None:
        """It was done, or tried."""
        self.trim = now + WEEK

    def reclaimed(self) -> None:
        """As `trimmed`."""
        self.reclaim = float("inf")


class TidyService:
    """Implements `hostvm.agent.service.Service`.

    :param events: of an API like Docker's; without them nothing is heard of, and the disk is trimmed weekly only.
    :param group: of all containers, below /sys/fs/cgroup.
    """

    name = "tidy"
    early = False
    gives_way = True

    def __init__(self, events: EngineEvents | None = None, group: str = "") -> None:
        self._socket = events.socket if events is not None else ""
        self._reclaim = ("sh", "-c", _RECLAIM, "reclaim", group)
        self._stopped = threading.Event()
        self._feed = events.feed(self.name, _EVENTS) if events is not None else None
        self._done: dict[str, str] = {}

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        self._stopped, plan = threading.Event(), Plan(time.monotonic())
        threading.Thread(target=self._work, args=(guest, host, plan, self._stopped), name="tidy", daemon=True).start()
        if self._feed is not None:
            self._feed.start(
                guest, host, lambda event: plan.hear(str(event.get("Action")), time.monotonic()), lambda: None
            )

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()
        if self._feed is not None:
            self._feed.stop()

    def describe(self) -> dict[str, Any]:
        """When each was done last, UTC."""
        return dict(self._done)

    def _work(self, guest: Guest, host: Host, plan: Plan, stopped: threading.Event) -> None:
        while not stopped.wait(_TICK):
            if plan.trim <= time.monotonic():
                self._do("trim", guest, host, TRIM)
                plan.trimmed(time.monotonic())
            if plan.reclaim <= time.monotonic():
                if not self._any_runs(guest, host):
                    self._do("reclaim", guest, host, self._reclaim)
                plan.reclaimed()

    def _any_runs(self, guest: Guest, host: Host) -> bool:
        """While one runs its cached files are of use; what has ended is given back when the last has."""
        try:
            api = EngineApi(lambda: guest.open_socket(self._socket), host.machine)
            found = api.call("GET", "/containers/json")
        except (OSError, HostvmError, ValueError, http.client.HTTPException):
            return True
        return bool(found)

    def _do(self, what: str, guest: Guest, host: Host, argv: tuple[str, ...]) -> None:
        try:
            done = guest.run(argv, timeout=_SECONDS)
        except HostvmError as fault:
            if not self._stopped.is_set():
                host.log(f"tidy: {what}: {fault}".replace("\n", ": "))
            return
        if done.status != 0:
            host.log(f"tidy: {what}: {done.stderr.decode(errors='replace').strip()}")
        else:
            self._done[what] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
