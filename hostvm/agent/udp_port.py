"""A published UDP port: each client's datagrams go through a socket of its own, so that answers find back."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from hostvm.agent.listeners import is_from, listen
from hostvm.agent.loop import READ
from hostvm.agent.service import Traffic
from hostvm.platform.datagrams import Datagrams

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.loop import Loop
    from hostvm.agent.rules import Rules
    from hostvm.agent.service import PortForward
    from hostvm.platform.datagrams import Here

_LARGEST = 65535
_AT_ONCE = 64
_PEERS_MOST = 1024
_IDLE_SECONDS = 120.0
_SWEEP_SECONDS = 30.0


class _Peer:
    """One client: its address, the one of this computer that it wrote to, and the socket for it before the guest."""

    def __init__(self, port: UdpPort, address: Any, here: Here, guest: socket.socket) -> None:
        self.address = address
        self.here = here
        self.guest = guest
        self.seen = time.monotonic()
        self.act = partial(port.answer, self)


class UdpPort:
    """Datagrams both ways. UDP has no connections: a client is forgotten after two silent minutes.

    :raises OSError: as `listen`.
    """

    def __init__(self, forward: PortForward, loop: Loop, rules: Rules, log: Callable[[str], None]) -> None:
        self._forward = forward
        self._loop = loop
        self._rules = rules
        self._log = log
        self._short = False
        self._act = self._receive
        self._peers: dict[tuple[Any, Here], _Peer] = {}
        self._closed = False
        self.traffic = Traffic()
        self._socket = listen("udp", forward.host, forward.port)
        self._datagrams = Datagrams(self._socket)
        self._bound = str(self._socket.getsockname()[0])
        loop.call(lambda: loop.watch(self._socket, READ, self._act))

    def close(self) -> None:
        """Stop. From any thread."""
        self._closed = True
        self._loop.call_and_wait(self._stop)

    # ---- in the loop's thread

    def _stop(self) -> None:
        self._loop.watch(self._socket, 0, self._act)
        self._socket.close()
        for peer in list(self._peers.values()):
            self._forget(peer)

    def _receive(self, events: int) -> None:
        del events
        port = self._rules.find("udp", self._forward.guest_port)
        if port is None:
            # Datagrams wait in the socket meanwhile.
            self._loop.watch(self._socket, 0, self._act)

            def go_on(found: int | None) -> None:
                self._loop.call(partial(self._with_rule, found))

            self._rules.want("udp", self._forward.guest_port, go_on)
            return
        for _ in range(_AT_ONCE):
            try:
                data, address, here = self._datagrams.receive(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an answer that could not be delivered is reported here
                continue
            peer = self._peers.get((address, here)) or self._admit(address, here, port)
            if peer is not None:
                self._send(peer, data)

    def _with_rule(self, port: int | None) -> None:
        if self._closed:
            return
        if port is None:
            self._drain()
        self._loop.watch(self._socket, READ, self._act)

    def _drain(self) -> None:
        """There is no way into the guest now; UDP may lose what it carries."""
        for _ in range(_PEERS_MOST):
            try:
                self._socket.recvfrom(1)
            except OSError:
                return

    def _admit(self, address: Any, here: Here, port: int) -> _Peer | None:
        if not is_from(self._forward.host, self._bound, address[0]):
            return None
        return self._meet(address, here, port)

    def _meet(self, address: Any, here: Here, port: int) -> _Peer | None:
        if len(self._peers) >= _PEERS_MOST:
            self._forget(min(self._peers.values(), key=lambda peer: peer.seen))
        guest = self._reach(port)
        if guest is None:
            return None
        peer = _Peer(self, address, here, guest)
        if not self._peers:
            self._loop.later(_SWEEP_SECONDS, self._sweep)
        self._peers[address, here] = peer
        self.traffic.connections += 1
        self._loop.watch(guest, READ, peer.act)
        return peer

    def _reach(self, port: int) -> socket.socket | None:
        """A socket to the guest; None while there can be none, which is logged once: datagrams come by the thousand."""
        try:
            guest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:  # no descriptors left
            if not self._short:
                self._log(f"ports: datagrams for port {self._forward.port}/udp of new clients are lost: {error}")
            self._short = True
            return None
        try:
            guest.settimeout(0.0)
            guest.connect(("127.0.0.1", port))
        except OSError:
            guest.close()
            return None
        self._short = False
        return guest

    def _send(self, peer: _Peer, data: bytes) -> None:
        peer.seen = time.monotonic()
        try:
            peer.guest.send(data)
        except ConnectionRefusedError:
            self._lost()
            return
        except OSError:
            return  # full: lost, as on any network
        self.traffic.up += len(data)

    def answer(self, peer: _Peer, events: int) -> None:
        """Carry what the guest sent to its client."""
        del events
        for _ in range(_AT_ONCE):
            try:
                data = peer.guest.recv(_LARGEST)
            except ConnectionRefusedError:
                self._lost()
                return
            except OSError:
                return
            peer.seen = time.monotonic()
            try:
                self._datagrams.send(data, peer.address, peer.here)
            except OSError:
                continue
            self.traffic.down += len(data)

    def _lost(self) -> None:
        """The hypervisor's port is gone; the next datagram asks for another."""
        self._rules.lost("udp", self._forward.guest_port)
        for peer in list(self._peers.values()):
            self._forget(peer)

    def _sweep(self) -> None:
        if self._closed:
            return
        limit = time.monotonic() - _IDLE_SECONDS
        for peer in [peer for peer in self._peers.values() if peer.seen < limit]:
            self._forget(peer)
        if self._peers:
            self._loop.later(_SWEEP_SECONDS, self._sweep)

    def _forget(self, peer: _Peer) -> None:
        self._loop.watch(peer.guest, 0, peer.act)
        peer.guest.close()
        del self._peers[peer.address, peer.here]
