"""The agent's part of the guest's clock: looks at it, and sets it when it is wrong.

A guest's clock stands still while the guest is suspended or paused, while this computer sleeps, and when this
computer's own is set. Docs: docs/adr/0071-the-guests-clock.md.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm.clock.reading import Clock, GuestClock
from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from hostvm.agent.service import Host
    from hostvm.guest import Guest

LOOK_EVERY = 60.0
"""Seconds between two looks at the guest's clock when nothing happened."""

_TICK = 1.0
_JUMP = 0.05
_LATE = 1.0
_WAKE_SECONDS = 5.0


class ClockService:
    """Implements `hostvm.agent.service.Service`."""

    name = "clock"
    early = True

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._look = threading.Event()
        self._right = threading.Event()
        self._guest_clock: GuestClock | None = None
        self._facts: dict[str, Any] = {"off": None, "within": None, "set": 0}

    def start(self, guest: Guest, host: Host) -> None:
        """See `Service.start`. A guest that just began to run, or to answer again, is looked at at once."""
        self._stopped, self._look = threading.Event(), threading.Event()
        self._right.clear()
        words = (guest, host, self._stopped, self._look)
        threading.Thread(target=self._run, args=words, name="clock", daemon=True).start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopped.set()
        self._look.set()
        if self._guest_clock is not None:
            self._guest_clock.close()

    def answers_again(self) -> None:
        """See `Notices.answers_again`."""
        self._look.set()

    def describe(self) -> dict[str, Any]:
        """Seconds that the guest was off when last looked at, how exactly that is known, how often it was set."""
        return dict(self._facts)

    def wait_right(self, guest: Guest) -> None:
        """A preparation of a guest that was woken: programs that run in it must not see yesterday's time."""
        del guest
        if not self._right.wait(_WAKE_SECONDS):
            raise TimeoutError(f"the guest's clock was not set within {_WAKE_SECONDS:g} s")

    def _run(self, guest: Guest, host: Host, stopped: threading.Event, look: threading.Event) -> None:
        while not stopped.is_set():
            try:
                with contextlib.closing(GuestClock(guest)) as clock:
                    self._guest_clock = clock
                    self._keep(clock, host, stopped, look)
            except (OSError, HostvmError, ValueError) as fault:
                if not stopped.is_set():
                    host.log(f"clock: {fault}".replace("\n", ": "))
            stopped.wait(_TICK)

    def _keep(self, clock: Clock, host: Host, stopped: threading.Event, look: threading.Event) -> None:
        unsure = 0.0
        while not stopped.is_set():
            before = _apart()
            done = clock.correct()
            self._facts = {"off": done.after, "within": done.within, "set": self._facts["set"] + done.times_set}
            if done.times_set:
                host.log(f"clock: the guest was {done.before:+.3f} s off, now {done.after:+.3f} s")
            if done.may_be_right:
                self._right.set()
            unsure = 0.0 if done.settled else min(LOOK_EVERY, 2 * unsure or _TICK)
            wait_for_jump(look, unsure or LOOK_EVERY, before)
            look.clear()  # before `stopped` is looked at: `stop` sets them the other way round


def wait_for_jump(look: threading.Event, most: float = LOOK_EVERY, before: float | None = None) -> None:
    """Until this computer's clock and its count of seconds part (it slept, or was set), or `most` seconds passed.

    Where the count goes on while the computer sleeps, as on Windows, a second that took much longer tells. Asks the
    guest nothing, so that an idle one stays idle.

    :param look: ends it, too.
    :param before: how far they were apart before the guest was asked: what it told is worth nothing after a jump.
    """
    seen = time.monotonic()
    ends = seen + most
    before = _apart() if before is None else before
    while seen < ends and not look.wait(_TICK):
        last, seen = seen, time.monotonic()
        now = _apart()
        if abs(now - before) > _JUMP or seen - last > _TICK + _LATE:
            return
        before = now


def _apart() -> float:
    """Seconds between the clock and the count of seconds, whose zero is anywhere."""
    return time.time() - time.monotonic()
