"""One thread that waits on many sockets and timers: what a published port costs no thread of its own for."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import threading
import time
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_BREATH = 0.001
"""Seconds; see `Loop.breathe`."""


class Loop:
    """Calls back in its own thread. Only `call`, `call_and_wait` and `close` may be used from other threads."""

    def __init__(self, name: str, log: Callable[[str], None]) -> None:
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._breathe = False
        self._closed = False
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.settimeout(0.0)
        self._selector.register(self._woken, READ, lambda _: self._drain())
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def watched(self) -> int:
        """How many sockets it waits on."""
        return len(self._selector.get_map() or ())

    def call(self, act: Callable[[], None]) -> None:
        """Run `act` in the loop's thread soon. Dropped when the loop is closed."""
        self._calls.append(act)
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: nobody listens
            self._waker.send(b"x")

    def call_and_wait(self, act: Callable[[], None]) -> None:
        """`call`, and return when it was done, or after a second."""
        done = threading.Event()
        self.call(act)
        self.call(done.set)
        done.wait(1.0)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Run `act` once, `seconds` from now."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), act))

    def watch(self, sock: socket.socket, events: int, act: Callable[[int], None]) -> None:
        """Call `act(ready events)` whenever one of `events` holds; 0 watches no more. Idempotent."""
        try:
            known = self._selector.get_key(sock)
        except (KeyError, ValueError):
            if events:
                self._selector.register(sock, events, act)
            return
        if not events:
            self._selector.unregister(sock)
        elif known.events != events or known.data is not act:
            self._selector.modify(sock, events, act)

    def breathe(self) -> None:
        """Let a millisecond pass before the next look: bytes that trickle in gather meanwhile.

        A virtual network delivers packet by packet. Moving each by itself costs so many system calls that the
        hypervisor, on a small computer, gets less done; with the pause a relay is as fast as no relay.
        """
        self._breathe = True

    def close(self) -> None:
        """End the thread; what is watched stays open, its owners close it. Idempotent."""
        self._closed = True
        self.call(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        finally:
            self._selector.close()
            self._waker.close()
            self._woken.close()

    def _turn(self) -> None:
        ready = self._selector.select(self._patience())
        for key, events in ready:
            # One callback may end another's watch.
            if self._selector.get_map().get(key.fd) is key:
                self._guarded(partial(key.data, events))
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._guarded(heapq.heappop(self._timers)[2])
        for _ in range(len(self._calls)):
            self._guarded(self._calls.popleft())
        if self._breathe:
            self._breathe = False
            time.sleep(_BREATH)

    def _patience(self) -> float | None:
        if self._calls:
            return 0.0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - one connection's fault must not end all others
            self._log(f"ports: {type(error).__name__}: {error}")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
