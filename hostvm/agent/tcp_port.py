"""A published TCP port: a listener whose connections are led into the guest by the quickest way there is."""

from __future__ import annotations

import errno
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from hostvm.agent.accept import NO_DESCRIPTORS_SECONDS
from hostvm.agent.listeners import is_for, listen
from hostvm.agent.loop import READ, WRITE
from hostvm.agent.pair import Pair
from hostvm.agent.relay import reset
from hostvm.agent.service import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.channels import ChannelPair, Channels
    from hostvm.agent.loop import Loop
    from hostvm.agent.rules import Rules
    from hostvm.agent.service import PortForward

_UNHEARD_MOST = 2
_UNHEARD_SECONDS = 0.005
_CONNECT_SECONDS = 0.15
_DRAIN_SECONDS = 3.0
_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", -1))


class TcpPort:
    """One listener and its connections.

    A connection goes through the hypervisor's network where that reaches the guest's port, and through ssh
    otherwise. The hypervisor's listener has a queue of one: what overflows it waits a second, and Linux 6.18 even
    loses bytes of such connections. So no more than two that the guest was not yet heard of are made within five
    milliseconds, the rest wait in this listener's queue; and one that the hypervisor does not take at once
    goes through ssh.

    :param channels: the way through ssh.
    :param crowded: whether the loop can take no more sockets (Windows).
    :raises OSError: as `listen`.
    """

    def __init__(
        self,
        forward: PortForward,
        loop: Loop,
        rules: Rules,
        channels: Channels,
        crowded: Callable[[], bool],
    ) -> None:
        self._forward = forward
        self._loop = loop
        self._rules = rules
        self._channels = channels
        self._crowded = crowded
        self._act = self._accept
        self._busy = False
        self._closed = False
        self._unheard: dict[Pair, float] = {}
        self._pairs: set[Pair] = set()
        self._led: set[ChannelPair] = set()
        self._lock = threading.Lock()
        self.traffic = Traffic()
        self._listener = listen("tcp", forward.host, forward.port)
        loop.call(self._gate)

    def close(self) -> None:
        """Stop listening now; connections get a few seconds for their last words. From any thread."""
        self._closed = True
        self._loop.call_and_wait(self._stop)

    # ---- in the loop's thread

    def _stop(self) -> None:
        self._loop.watch(self._listener, 0, self._act)
        self._listener.close()
        self._loop.later(_DRAIN_SECONDS, self._end)

    def _end(self) -> None:
        for pair in list(self._pairs):
            pair.close()
        with self._lock:
            led = list(self._led)
        for one in led:
            one.close()

    def _gate(self) -> None:
        """Accept, or wait until that is wise."""
        if self._closed:
            return
        now = time.monotonic()
        self._unheard = {pair: since for pair, since in self._unheard.items() if now - since < _UNHEARD_SECONDS}
        if self._busy:
            self._loop.watch(self._listener, 0, self._act)
        elif len(self._unheard) >= _UNHEARD_MOST:
            self._loop.watch(self._listener, 0, self._act)
            self._loop.later(min(self._unheard.values()) + _UNHEARD_SECONDS - now, self._gate)
        else:
            self._loop.watch(self._listener, READ, self._act)

    def _accept(self, events: int) -> None:
        del events
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors left: those who wait get their turn when others end
            self._busy = True
            self._loop.later(NO_DESCRIPTORS_SECONDS, self._free)
            self._gate()
            return
        if not is_for(self._forward.host, client):
            reset(client)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.traffic.connections += 1
        if not self._forward.outside or self._crowded():
            self._by_ssh(client)
            return
        port = self._rules.find("tcp", self._forward.guest_port)
        if port is not None:
            self._by_hypervisor(client, port)
            return
        self._busy = True
        self._gate()

        def go_on(found: int | None) -> None:
            self._loop.call(partial(self._with_rule, client, found))

        self._rules.want("tcp", self._forward.guest_port, go_on)

    def _free(self) -> None:
        self._busy = False
        self._gate()

    def _with_rule(self, client: socket.socket, port: int | None) -> None:
        self._busy = False
        try:
            if port is None:
                self._by_ssh(client)
            else:
                self._by_hypervisor(client, port)
        finally:
            self._gate()

    def _by_hypervisor(self, client: socket.socket, port: int) -> None:
        client.settimeout(0.0)
        try:
            guest = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:  # no descriptors left
            reset(client)
            return
        guest.settimeout(0.0)
        guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = guest.connect_ex(("127.0.0.1", port))
        if status not in (0, *_IN_PROGRESS):
            self._instead(client, guest, refused=True)
            return
        if status == 0 or _is_connected(guest):
            self._join(client, guest)
            return
        self._busy = True
        self._gate()
        waiting = [True]

        def settle(events: int) -> None:
            if not waiting:
                return
            waiting.clear()
            try:
                self._loop.watch(guest, 0, settle)
                if events and guest.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    self._join(client, guest)
                else:
                    self._instead(client, guest, refused=bool(events))
            finally:
                self._free()

        self._loop.later(_CONNECT_SECONDS, lambda: settle(0))  # first: it comes though the watch should fail
        self._loop.watch(guest, WRITE, settle)

    def _join(self, client: socket.socket, guest: socket.socket) -> None:
        pair = Pair(self._loop, client, guest, self.traffic, answered=self._heard, done=self._pairs.discard)
        self._pairs.add(pair)
        self._unheard[pair] = time.monotonic()
        self._gate()

    def _heard(self, pair: Pair) -> None:
        if self._unheard.pop(pair, None) is not None and not self._busy:
            self._gate()

    def _instead(self, client: socket.socket, guest: socket.socket, *, refused: bool) -> None:
        guest.close()
        if refused:
            self._rules.lost("tcp", self._forward.guest_port)
        self._by_ssh(client)

    def _by_ssh(self, client: socket.socket) -> None:
        to = self._forward
        with self._lock:  # its end comes from another thread
            try:
                self._led.add(self._channels.carry(client, to.guest_host, to.guest_port, self.traffic, self._done))
            except RuntimeError:  # no thread can be had
                reset(client)

    def _done(self, pair: ChannelPair) -> None:
        with self._lock:
            self._led.discard(pair)


def _is_connected(sock: socket.socket) -> bool:
    """Connecting to loopback says "in progress" and is done by then: asking spares a turn of the loop."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
