"""Containers of another architecture that docker clients start by themselves: the emulator comes before they do.

The agent shows here what a client sends at docker.sock before it is passed on. A request that is about to run programs
of the architecture waits until the guest has the emulator; others wait for a question to the engine at most, and for
nothing once the guest has it. Which words of hostvm itself bring one: cli/platform_words.py.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from hostvm.emulate import platform_arch
from runtime.docker.api import EngineApi, EngineApiError, path_part
from runtime.docker.events import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Host
    from hostvm.guest import Guest

HELD = 300.0
"""Seconds that a request waits at most. What it waited for goes on without it, and a later one finds it done."""

AGAIN = 60.0
"""Seconds after a failure in which no request waits for another one."""

_REGISTERED = "/proc/sys/fs/binfmt_misc/qemu-"
_IMAGES_MOST = 1000
_LINE = re.compile(rb"POST ([!-~]+) HTTP/1\.[01]\r\n")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request is about to run.

    :param container: one that is to start, as the URL names it; "" where `platforms` tells.
    :param platforms: as they are written.
    """

    container: str = ""
    platforms: tuple[str, ...] = ()


def read_wish(data: bytes) -> Wish | None:
    """The wish in bytes that a client sent in one piece; None when no such request begins with them.

    Clients wait for the answer to a request before they send another one, so that its line comes first in a piece. What
    only looks like one, in a file that is sent, costs a question that leads to nothing. Podman's own paths are Docker's
    with /libpod before them.
    """
    found = _LINE.match(data)
    if found is None:
        return None
    path, _, query = found[1].decode("ascii").partition("?")
    parts = path.split("/")
    if parts[-3:-2] == ["containers"] and parts[-1] in ("start", "restart"):
        return Wish(parts[-2])
    if parts[-2:] == ["containers", "create"] or parts[-1] == "build":
        platforms = ",".join(parse_qs(query).get("platform", [])).split(",")
        return Wish("", tuple(platforms)) if any(platforms) else None
    return None


@dataclass(slots=True)
class _Reached:
    """A guest, as long as there is a connection to it.

    :param registered: whether its kernel has the emulator; None until it was asked.
    """

    guest: Guest
    host: Host
    registered: bool | None = None


class ForeignService:
    """Implements `hostvm.agent.service.Service`.

    :param socket: the engine's, in the guest.
    :param arch: whose emulator is brought, as platforms name it.
    :param bring: has the guest register it, fetched if it is not here; gives why not, "" when it has.
    """

    name = "emulators"
    early = True  # no client's request comes before it

    def __init__(self, socket: str, arch: str, bring: Callable[[], str]) -> None:
        self._socket = socket
        self._arch = arch
        self._bring = bring
        self._reached: _Reached | None = None
        self._lock = threading.Lock()
        self._archs: dict[str, str] = {}  # of images, by their ids
        self._why, self._again = "", 0.0

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`: nothing is asked before a client starts something."""
        self._reached = _Reached(guest, host)

    def stop(self) -> None:
        """See `Service.stop`."""
        self._reached = None

    def describe(self) -> dict[str, Any]:
        """Which one, whether the guest has it (null: not known yet), and why it could not be brought."""
        registered = self._reached.registered if self._reached else None
        return {"arch": self._arch, "registered": registered, "why": "" if registered else self._why}

    def before(self, data: bytes) -> None:
        """Return when what a client sent may go on to the engine. Never raises."""
        reached = self._reached
        if reached is None or reached.registered or (wish := read_wish(data)) is None:
            return
        seen = threading.Event()
        try:
            threading.Thread(target=self._look, args=(reached, wish, seen), name="emulators", daemon=True).start()
        except RuntimeError:
            return  # no thread left: the engine's answer is the better one
        if not seen.wait(HELD):
            reached.host.log(f"emulators: a request went on after {HELD:.0f} s, without the emulator of {self._arch}")

    def _look(self, reached: _Reached, wish: Wish, seen: threading.Event) -> None:
        try:
            try:
                if self._is_foreign(reached, wish):
                    self._provide(reached)
            finally:
                seen.set()
            # Nobody waits for this: who runs nothing foreign is asked nothing more where the guest has the emulator.
            if reached.registered is None:
                self._ask(reached)
        except FAULTS as fault:
            if not (isinstance(fault, EngineApiError) and fault.status):  # the client is refused the same
                reached.host.log(f"emulators: {fault}".replace("\n", ": "))

    def _is_foreign(self, reached: _Reached, wish: Wish) -> bool:
        if not wish.container:
            return any(platform_arch(platform) == self._arch for platform in wish.platforms)
        api = EngineApi(lambda: reached.guest.open_socket(self._socket), reached.host.machine)
        image = str(api.call("GET", f"/containers/{wish.container}/json")["Image"])
        if image not in self._archs:
            found = api.call("GET", f"/images/{path_part(image)}/json")
            if len(self._archs) >= _IMAGES_MOST:
                self._archs.clear()
            self._archs[image] = platform_arch(str(found["Architecture"]))
        return self._archs[image] == self._arch

    def _provide(self, reached: _Reached) -> None:
        with self._lock:  # what the first one brings the others find
            if reached.registered or self._ask(reached) or time.monotonic() < self._again:
                return
            reached.host.log(f"emulators: programs of {self._arch} are wanted: their emulator is brought")
            begun = time.monotonic()
            if said := self._bring():
                self._again = time.monotonic() + AGAIN
                self._why = f"none of {self._arch}: {said.splitlines()[0].removeprefix('hostvm: ')}"
                reached.host.log(f"emulators: {said}")
                return
            reached.registered = True
            reached.host.log(f"emulators: programs of {self._arch} can run, after {time.monotonic() - begun:.1f} s")

    def _ask(self, reached: _Reached) -> bool:
        reached.registered = reached.guest.run(["test", "-e", _REGISTERED + self._arch]).status == 0
        return reached.registered
