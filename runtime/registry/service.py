"""The registry as a job of the machine's agent: in the guest before the machine is ready, its port here after that."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

from hostvm.agent.service import PortForward
from hostvm.errors import AgentError, MachineError
from runtime.docker.ports import place
from runtime.docker.published import LOOPBACK4
from runtime.registry import guest as inside
from runtime.registry.wanted import load_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from hostvm.agent.service import Host
    from hostvm.guest import Guest
    from runtime.registry.wanted import Wanted

SERVICE = "registry"
_ADDRESSES = (LOOPBACK4, "::1")
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_AGAIN = 1.0


class RegistryService:
    """Keeps guest and computer as registry.json wants them.

    :param folder: the machine's, with registry.json.
    :param engine: the machine's.
    """

    name = SERVICE
    early = False

    def __init__(self, folder: Path, engine: str = "docker") -> None:
        self._folder = folder
        self._engine = engine
        self._lock = threading.Lock()
        self._guest: Guest | None = None
        self._host: Host | None = None
        self._stopped = threading.Event()
        self._open: frozenset[PortForward] = frozenset()  # both are replaced, never changed: `describe` takes no lock
        self._failed: dict[PortForward, str] = {}
        self._busy = False

    def prepare(self, guest: Guest) -> None:
        """See `Preparation`: started in the guest while the engine starts."""
        wanted = load_wanted(self._folder)
        if wanted.on:
            inside.up(guest, wanted, self._folder.name, self._engine, wait=not wanted.mirror)

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`: its port on this computer; one that is taken is tried again until it is free."""
        self._stopped = stopped = threading.Event()
        with self._lock:
            self._guest, self._host = guest, host
            wanted = load_wanted(self._folder)
            self._busy = wanted.on and not wanted.mirror
            if not wanted.on:
                return
            for forward, why in self._listen(host, _forwards(wanted)).items():
                host.tell(f"the registry wants {place(forward.host, forward.port)} here, which cannot be opened: {why}")
        threading.Thread(target=self._retry, args=(stopped,), name="registry", daemon=True).start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()
        with self._lock:
            self._guest = None

    def in_use(self) -> bool:
        """See `Uses`: somebody may want to push, at any time; a mirror is used by the engine alone."""
        return self._busy

    def why_failed(self, guest: Guest) -> str:
        """What a command's user should know who was told of a push only that it failed; "" when there is room.

        :raises HostvmError: the guest cannot be asked, or the registry's settings are damaged.
        """
        wanted = load_wanted(self._folder)
        if not wanted.on or not inside.is_full(guest, wanted):
            return ""
        return (
            f"the registry of machine {self._folder.name} is full: delete images of it, then "
            f"`hostvm registry gc {self._folder.name}`: docs/registries.md"
        )

    def describe(self) -> dict[str, Any]:
        """Rows for `hostvm port ls`."""
        return {
            "open": [{**_row(forward), **_traffic(self._host, forward)} for forward in sorted(self._open)],
            "failed": [{**_row(forward), "why": why} for forward, why in sorted(self._failed.items())],
        }

    def ask(self, facts: dict[str, Any]) -> dict[str, Any]:
        """A request of `hostvm registry`: `do` is up, down, clean, wipe or look; settings are in registry.json.

        :raises HostvmError: it cannot be done; nothing of an `up` is left then.
        """
        act = {"up": self._up, "down": self._down, "clean": self._clean, "wipe": self._wipe, "look": self._look}
        with self._lock:
            if self._guest is None or self._host is None:
                raise AgentError("the guest is not reached at the moment", None, "hostvm status")
            return act[str(facts["do"])](self._guest, self._host, load_wanted(self._folder))

    # ---- with the lock held

    def _up(self, guest: Guest, host: Host, wanted: Wanted) -> dict[str, Any]:
        failed = self._listen(host, _forwards(wanted))
        if failed:
            forward, why = next(iter(failed.items()))
            self._unlisten(host)
            name = self._folder.name
            raise MachineError(
                f"port {wanted.port} of this computer is taken",
                f"{place(forward.host, forward.port)}: {why}",
                f"hostvm registry start {name} --port {wanted.port + 1}",
            )
        try:
            inside.up(guest, wanted, self._folder.name, self._engine)
        except BaseException:
            self._unlisten(host)
            inside.down(guest, self._engine)
            raise
        self._busy = not wanted.mirror
        return self._look(guest, host, wanted)

    def _down(self, guest: Guest, host: Host, wanted: Wanted) -> dict[str, Any]:
        self._busy = False
        self._unlisten(host)
        inside.down(guest, self._engine)
        return self._look(guest, host, wanted)

    def _clean(self, guest: Guest, host: Host, wanted: Wanted) -> dict[str, Any]:
        del host
        return inside.clean(guest, wanted, self._folder.name)

    def _wipe(self, guest: Guest, host: Host, wanted: Wanted) -> dict[str, Any]:
        self._down(guest, host, wanted)
        return {"bytes": inside.wipe(guest)}

    def _look(self, guest: Guest, host: Host, wanted: Wanted) -> dict[str, Any]:
        del host
        taken = {place(forward.host, forward.port): why for forward, why in self._failed.items()}
        return {**inside.look(guest, wanted), "failed": taken}

    def _listen(self, host: Host, wanted: Iterable[PortForward]) -> dict[PortForward, str]:
        """Open these and close others; those that failed, with why."""
        wanted = set(wanted)
        for forward in self._open - wanted:
            host.close_port(forward)
        opened, failed = self._open & wanted, {}
        for forward in sorted(wanted - self._open):
            try:
                host.open_port(forward)
            except OSError as fault:
                if ":" in forward.host and fault.errno in _NO_SUCH_ADDRESS:
                    continue  # this computer has no IPv6
                failed[forward] = fault.strerror or str(fault)
            else:
                opened |= {forward}
        self._open, self._failed = opened, failed
        return failed

    def _unlisten(self, host: Host) -> None:
        self._listen(host, ())

    # ---- in a thread of its own

    def _retry(self, stopped: threading.Event) -> None:
        while not stopped.wait(_AGAIN):
            with self._lock:
                if self._host is None or not self._failed:
                    return
                self._listen(self._host, {*self._open, *self._failed})


def _forwards(wanted: Wanted) -> list[PortForward]:
    return [PortForward("tcp", address, wanted.port, LOOPBACK4, wanted.port, outside=False) for address in _ADDRESSES]


def _row(forward: PortForward) -> dict[str, Any]:
    return {
        "container": "(registry)",
        "protocol": forward.protocol,
        "host": place(forward.host, forward.port),
        "guest": place(forward.guest_host, forward.guest_port),
    }


def _traffic(host: Host | None, forward: PortForward) -> dict[str, int]:
    if host is None:
        return {"sent": 0, "received": 0, "connections": 0}
    carried = host.traffic(forward)
    return {"sent": carried.up, "received": carried.down, "connections": carried.connections}
