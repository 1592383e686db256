"""Scale to zero: the agent's look at whether its machine is still in use.

What is done then (`idle.action` in machine.yaml) is another process's work, since it ends the agent.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError
from hostvm.spec import IdleSettings, load_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.agent.service import Host
    from hostvm.guest import Guest

_TICK_LEAST, _TICK_MOST = 0.25, 5.0
_AGAIN_LEAST = 60.0
"""Seconds until what failed, or was in the way, is tried again; what machine.yaml says anew is tried at once."""


class IdleService:
    """Implements `hostvm.agent.service.Service`.

    :param spec: machine.yaml, read whenever it is a new one.
    :param sleep: begins the action and returns at once.
    """

    name = "idle"
    early = False

    def __init__(self, spec: Path, sleep: Callable[[], None]) -> None:
        self._spec = spec
        self._sleep = sleep
        self._read: tuple[int, IdleSettings] = (0, IdleSettings())
        self._stopped = threading.Event()
        self._host: Host | None = None

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`."""
        del guest
        self._stopped, self._host = threading.Event(), host
        threading.Thread(target=self._watch, args=(host, self._stopped), name="idle", daemon=True).start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()

    def describe(self) -> dict[str, Any]:
        """What is to happen, and the seconds that the machine has been idle."""
        settings = self._read[1]
        idle = 0.0 if self._host is None else self._host.idle()
        return {"after": settings.after, "action": settings.action, "idle": round(idle, 1)}

    def _watch(self, host: Host, stopped: threading.Event) -> None:
        wait = _TICK_LEAST
        tried: tuple[IdleSettings | None, float] = (None, 0.0)
        while not stopped.wait(wait):
            settings = self._settings(host)
            wait = max(_TICK_LEAST, min(settings.after / 4, _TICK_MOST))
            # Asked also when nothing is to be done: it tells for how long use that only services know of is over.
            if host.idle() < settings.after or settings.action == "none":
                continue
            if settings is tried[0] and time.monotonic() < tried[1]:
                continue
            host.log(f"idle: nothing used the machine for {settings.after} s: {settings.action}")
            try:
                self._sleep()
            except (HostvmError, OSError) as fault:  # no memory for one more process, say
                host.log(f"idle: it stays awake: {fault}".replace("\n", ": "))
            tried = (settings, time.monotonic() + max(float(settings.after), _AGAIN_LEAST))

    def _settings(self, host: Host) -> IdleSettings:
        try:
            changed = self._spec.stat().st_mtime_ns
            if changed != self._read[0]:
                self._read = (changed, self._read[1])
                self._read = (changed, load_spec(self._spec).idle)
        except (OSError, HostvmError) as fault:
            host.log(f"idle: {fault}".replace("\n", ": "))
        return self._read[1]
