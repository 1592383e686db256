"""Published ports of containers on this computer: watched through the engine's events, not by scanning listeners.

With the userland proxy off there is no listener in the guest to scan, and events tell exactly which container
published what.
"""

from __future__ import annotations

import errno
import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

from runtime.docker.api import EngineApi, EngineApiError
from runtime.docker.detours import SCRIPT, Detours
from runtime.docker.events import FAULTS, ODD
from runtime.docker.hostnet import Listener, Look, listener_forwards
from runtime.docker.published import container_forwards, service_forwards, uses_host_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from hostvm.agent.service import Host, PortForward
    from hostvm.guest import Guest
    from runtime.docker.events import EngineEvents

    LookAt: TypeAlias = Callable[[EngineApi, str], dict[str, Any]]

_CONTAINER_EVENTS = ("start", "die", "rename")
_SERVICE_EVENTS = ("create", "update", "remove")
_EVENTS = {"type": ["container", "service"], "event": [*_CONTAINER_EVENTS, *_SERVICE_EVENTS]}
_TICK = 1.0
"""Seconds between two tries of a port that is taken, and two looks at host-network or restarting containers."""

_RULES_SECONDS = 10.0
_GONE = "no such container"

# Without it the engine refuses `-p ADDRESS:...` with an address of this computer, which the guest does not have.
_ANY_ADDRESS = "for f in /proc/sys/net/ipv[46]/ip_nonlocal_bind; do echo 1 > $f; done"
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def inspect_container(api: EngineApi, ident: str) -> dict[str, Any]:
    """What Docker's API tells of a container."""
    found: dict[str, Any] = api.call("GET", f"/containers/{ident}/json")
    return found


class PortService:
    """Keeps this computer's listeners equal to what running containers publish.

    Open ports outlive a lost connection: what goes through the hypervisor's network does not need it.

    :param expose: what a publish without an address is bound to: loopback or lan.
    :param reached: see `container_forwards`.
    :param look_at: facts of a container, as GET /containers/ID/json of Docker tells them.
    """

    name = "ports"
    early = False
    gives_way = True

    def __init__(
        self,
        events: EngineEvents,
        expose: str = "loopback",
        look_at: LookAt = inspect_container,
        *,
        reached: bool = True,
    ) -> None:
        self._socket = events.socket
        self._look_at = look_at
        self._expose = expose
        self._reached = reached
        self._lock = threading.Lock()
        self._containers: dict[str, tuple[str, frozenset[PortForward]]] = {}
        self._sharing: dict[str, str] = {}
        self._waiting: frozenset[str] = frozenset()
        self._services: dict[PortForward, str] = {}
        self._listening: dict[PortForward, str] = {}
        self._open: dict[PortForward, str] = {}
        self._failed: dict[PortForward, tuple[str, str]] = {}
        self._applied = threading.Condition()
        self._detours = Detours()
        self._led = ""  # their rules, as this guest has them; "" when it may have none
        self._leads = True
        self._known: set[str] = set()
        self._odd: dict[str, str] = {}
        self._odd_services: set[tuple[str, str]] = set()
        self._feed = events.feed(self.name, _EVENTS)
        self._stopped = threading.Event()
        self._work = threading.Event()

    def start(self, guest: Guest, host: Host) -> None:
        """Begin to watch; ports of containers that run already are opened first."""
        self._stopped = stopped = threading.Event()  # a new one: threads of a former connection must stay stopped
        self._work = work = threading.Event()
        self._guest, self._host = guest, host
        self._feed.start(guest, host, self._obey, self._read_all)
        threading.Thread(target=self._tick, args=(stopped, work), name="ports-tick", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._work.set()
        with self._lock:
            self._feed.stop()

    def settle(self, timeout: float) -> bool:
        """See `hostvm.agent.service.Settles`: every container that runs now is known, and its ports are open."""
        deadline = time.monotonic() + timeout
        try:
            running = self._running()
        except FAULTS:
            return True  # the engine is gone: nothing more will happen
        with self._applied:
            return self._applied.wait_for(lambda: running <= self._known, deadline - time.monotonic())

    def in_use(self) -> bool:
        """See `hostvm.agent.service.Uses`: a container runs, or waits to be restarted."""
        return bool(self._containers or self._waiting)

    def describe(self) -> dict[str, Any]:
        """Open ports with what they carried, and those that could not be opened with why."""
        with self._lock:
            opened, failed = sorted(self._open.items()), sorted(self._failed.items())
        return {
            "open": [self._row(forward, name, traffic=True) for forward, name in opened],
            "failed": [{**self._row(forward, name), "why": why} for forward, (name, why) in failed],
        }

    # ---- the engine's events

    def _api(self) -> EngineApi:
        return EngineApi(lambda: self._guest.open_socket(self._socket), self._host.machine)

    def _running(self) -> set[str]:
        listed = self._api().call("GET", "/containers/json")
        if not isinstance(listed, list):
            raise TypeError(f"the engine's list of containers is {type(listed).__name__}")
        return {str(one["Id"]) for one in listed if isinstance(one, dict) and one.get("Id")}

    def _read_all(self) -> None:
        self._guest.run(["sh", "-c", _ANY_ADDRESS])
        self._led = ""  # it may be another guest, or its engine has put its own rules before them
        running = self._running()
        for gone in (set(self._containers) | self._waiting) - running:
            self._forget(gone)
        for ident in running:
            self._learn(ident)
        self._read_services()
        self._apply()

    def _obey(self, event: dict[str, Any]) -> None:
        kind, action, ident = event.get("Type"), event.get("Action"), str((event.get("Actor") or {}).get("ID"))
        if kind == "service":
            self._read_services()
        elif action == "die":
            self._forget(ident)
            self._waiting |= {ident}  # the engine may be about to restart it
            self._apply()
            self._learn(ident)
        elif action in _CONTAINER_EVENTS:
            self._learn(ident)
        else:
            return
        self._apply()

    def _learn(self, ident: str) -> None:
        try:
            self._take(ident, self._look_at(self._api(), ident))
        except EngineApiError as error:
            # Podman's status is 500 where the container goes while it is looked at.
            if error.status != http.HTTPStatus.NOT_FOUND and _GONE not in str(error.details):
                raise
            self._forget(ident)
        except ODD as fault:
            self._skip(ident, fault)

    def _take(self, ident: str, facts: dict[str, Any]) -> None:
        state = facts.get("State") or {}
        if not state.get("Running") or state.get("Restarting"):
            self._forget(ident)  # it has ended meanwhile
            if state.get("Restarting"):
                self._waiting |= {ident}
                self._work.set()
            return
        name = str(facts.get("Name", "?")).lstrip("/")
        forwards, shares = container_forwards(facts, self._expose, reached=self._reached), uses_host_network(facts)
        self._waiting -= {ident}
        self._odd.pop(ident, None)
        self._containers[ident] = (name, forwards)
        if shares:
            self._sharing = {**self._sharing, ident: name}
            self._work.set()

    def _skip(self, ident: str, fault: Exception) -> None:
        """Have no ports of a container that is told of oddly; it is a use as long as the engine lists it."""
        told = self._odd.get(ident)
        self._forget(ident)
        self._waiting |= {ident}
        self._work.set()
        self._odd[ident] = _text(fault)
        if told != self._odd[ident]:
            self._host.log(f"ports: nothing of container {ident[:12]}, which the engine tells oddly: {_text(fault)}")

    def _forget(self, ident: str) -> None:
        self._containers.pop(ident, None)
        self._odd.pop(ident, None)
        self._waiting -= {ident}
        if ident in self._sharing:
            self._sharing = {other: name for other, name in self._sharing.items() if other != ident}
            self._work.set()

    def _read_services(self) -> None:
        try:
            services = self._api().call("GET", "/services")
        except EngineApiError as error:
            # Docker's answer where there is no swarm, and Podman's, which knows none.
            if error.status not in (http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.NOT_FOUND):
                raise
            services = []
        found: dict[PortForward, str] = {}
        odd: set[tuple[str, str]] = set()
        for service in services or ():
            try:
                found |= service_forwards([service], self._expose)
            except ODD as fault:
                odd.add((str(service.get("ID", "?"))[:12] if isinstance(service, dict) else "?", _text(fault)))
        for ident, why in sorted(odd - self._odd_services):
            self._host.log(f"ports: nothing of service {ident}, which the engine tells oddly: {why}")
        self._services, self._odd_services = found, odd

    # ---- what has no events: ports that become free, listeners on the guest's own network

    def _tick(self, stopped: threading.Event, work: threading.Event) -> None:
        look: Look | None = None
        seen: frozenset[Listener] = frozenset()
        shared: dict[str, str] = {}
        told = ""
        while not stopped.is_set():
            try:
                if self._sharing and look is None:
                    look = Look(self._guest)
                if look is not None:
                    found = look.now() if self._sharing else frozenset()
                    if found != seen or shared != self._sharing:
                        seen, shared = found, self._sharing
                        self._listening = self._whose(look, seen, shared)
                if look is not None and not self._sharing:
                    look.close()
                    look = None
                self._apply()
                self._look_at_waiting()
                told = ""
            except FAULTS as fault:
                look = None
                if not stopped.is_set() and told != _text(fault):
                    told = _text(fault)
                    self._host.log(f"ports: {told}")
            if self._sharing or self._failed or self._waiting:
                stopped.wait(_TICK)
            else:
                work.wait()
                work.clear()
        if look is not None:
            look.close()

    def _look_at_waiting(self) -> None:
        """Let go of those that will not be restarted: no event tells of a `docker stop` or `rm` while they wait."""
        if not self._waiting:
            return
        self._waiting &= self._running()

    def _whose(self, look: Look, seen: frozenset[Listener], shared: dict[str, str]) -> dict[PortForward, str]:
        if not seen or not shared:
            return {}
        return listener_forwards(seen, look.owners(shared), shared, self._expose)

    # ---- this computer's listeners

    def _wanted(self) -> dict[PortForward, str]:
        wanted = {**self._listening, **self._services}
        for name, forwards in list(self._containers.values()):
            wanted.update(dict.fromkeys(forwards, name))
        return wanted

    def _lead(self, wanted: dict[PortForward, str]) -> dict[PortForward, str]:
        """The same with ways for UDP where it needs one."""
        led, rules = self._detours.lead(wanted), self._detours.rules()
        if rules != self._led and (self._detours or self._led):
            done = self._guest.run(["sh", "-c", SCRIPT], stdin=rules.encode(), timeout=_RULES_SECONDS)
            self._led, self._leads = rules, done.status == 0
            if not self._leads:
                self._host.log(f"ports: no ways for UDP: {done.stderr.decode(errors='replace').strip()}")
        return {led[forward]: name for forward, name in wanted.items()} if self._leads else wanted

    def _apply(self) -> None:
        told: dict[tuple[str, str], list[str]] = {}
        with self._lock:
            if self._stopped.is_set():
                return
            known, wanted = set(self._containers) | self._waiting, self._lead(self._wanted())
            for forward in set(self._open) - set(wanted):
                del self._open[forward]
                self._host.close_port(forward)
                self._host.log(f"ports: closed {text_of(forward)}")
            for forward in set(self._failed) - set(wanted):
                del self._failed[forward]
            for forward, name in sorted(wanted.items()):
                if forward in self._open:
                    self._open[forward] = name
                elif why := self._open_one(forward, name):
                    told.setdefault((name, why), []).append(text_of(forward))
        for (name, why), places in told.items():  # -p 80:80 is two, of IPv4 and of IPv6: told in one line
            nor = "".join(f", nor {other}" for other in places[1:])
            self._host.tell(f"{name} wants {places[0]} here, which cannot be opened{nor}: {why}")
        with self._applied:
            self._known = known
            self._applied.notify_all()

    def _open_one(self, forward: PortForward, name: str) -> str:
        """Why a port cannot be opened, to be told; "" when it was, or that was told before."""
        try:
            self._host.open_port(forward)
        except OSError as fault:
            if ":" in forward.host and forward.outside and fault.errno in _NO_SUCH_ADDRESS:
                return ""  # this computer has no IPv6, and nobody asked for it: see published.py
            why, known = fault.strerror or str(fault), forward in self._failed
            self._failed[forward] = (name, why)
            self._work.set()
            again = "" if fault.errno == errno.EOPNOTSUPP else "; tried again until it can"
            return "" if known else f"{why}{again}"
        self._failed.pop(forward, None)
        self._open[forward] = name
        self._host.log(f"ports: opened {text_of(forward)} for {name}")
        return ""

    def _row(self, forward: PortForward, name: str, *, traffic: bool = False) -> dict[str, Any]:
        row: dict[str, Any] = {
            "container": name,
            "protocol": forward.protocol,
            "host": place(forward.host, forward.port),
            "guest": place(*self._detours.target(forward)),
        }
        if traffic:
            carried = self._host.traffic(forward)
            row |= {"sent": carried.up, "received": carried.down, "connections": carried.connections}
        return row


def _text(fault: Exception) -> str:
    """One line, for the log."""
    kind = f"{type(fault).__name__}: " if isinstance(fault, ODD) else ""
    return kind + str(fault).replace("\n", ": ")


def place(host: str, port: int) -> str:
    """HOST:PORT, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def text_of(forward: PortForward) -> str:
    """A forward's own side, for messages."""
    return f"{place(forward.host, forward.port)}/{forward.protocol}"
