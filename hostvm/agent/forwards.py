"""Listeners on this computer whose connections are carried into the guest: the engine's socket and published ports."""

from __future__ import annotations

import errno
import sys
import threading
from typing import TYPE_CHECKING, Any

from hostvm.agent.accept import serve_each
from hostvm.agent.activity import LeavingError
from hostvm.agent.channels import Channels
from hostvm.agent.loop import Loop
from hostvm.agent.relay import relay, reset
from hostvm.agent.service import Traffic
from hostvm.agent.tcp_port import TcpPort
from hostvm.agent.udp_port import UdpPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.accept import Listener
    from hostvm.agent.activity import Activity
    from hostvm.agent.channels import Polled
    from hostvm.agent.relay import Examine, LocalEnd
    from hostvm.agent.rules import Rules
    from hostvm.agent.service import PortForward
    from hostvm.ssh.process import SshStream

# Windows' select() takes 512 sockets, two a connection; the rest goes through ssh, in loops of its own.
_CONNECTIONS_MOST = 200 if sys.platform == "win32" else 100_000


class SocketForward:
    """A local socket or pipe of this user alone, whose connections go where `connect` leads.

    :param connect: opens the guest's end; may block while the machine boots.
    :param activity: counts connections.
    :param examine: makes what looks at one connection's requests, see `relay`.
    """

    def __init__(
        self,
        listener: Listener,
        connect: Callable[[], SshStream],
        activity: Activity,
        log: Callable[[str], None],
        examine: Callable[[], Examine],
    ) -> None:
        self._activity = activity
        self._listener = listener
        self._connect = connect
        self._log = log
        self._examine = examine
        serve_each(self._listener, self._serve, "engine-socket")

    def close(self) -> None:
        """Stop listening and remove the file; connections go on until their ssh connection ends."""
        self._listener.close()

    def _serve(self, sock: LocalEnd) -> None:
        try:
            with self._activity.use():
                self._carry(sock)
        except LeavingError:
            reset(sock)

    def _carry(self, sock: LocalEnd) -> None:
        try:
            stream = self._connect()
        except OSError as error:
            self._log(f"engine socket: {error}")
            reset(sock)
            return
        relay(sock, stream, examine=self._examine())


class Ports:
    """This computer's ports that lead into the guest.

    :param begin: begins to open a stream to (host, port) of the guest through ssh, see `Channels`.
    """

    def __init__(
        self, begin: Callable[[str, int, Callable[[], None]], Polled], rules: Rules, log: Callable[[str], None]
    ) -> None:
        self._channels = Channels(begin, log)
        self._rules = rules
        self._log = log
        self._loop = Loop("ports", log)
        self._lock = threading.Lock()
        self._open: dict[PortForward, TcpPort | UdpPort] = {}

    def open_port(self, forward: PortForward) -> None:
        """See `Host.open_port`."""
        with self._lock:
            if forward in self._open:
                return
            self._open[forward] = self._make(forward)

    def close_port(self, forward: PortForward) -> None:
        """See `Host.close_port`."""
        with self._lock:
            found = self._open.pop(forward, None)
            last = not any(_same_guest_port(forward, other) for other in self._open)
        if found is not None:
            found.close()
        if last:
            self._rules.drop(forward.protocol, forward.guest_port)

    def traffic(self, forward: PortForward) -> Traffic:
        """See `Host.traffic`."""
        with self._lock:
            found = self._open.get(forward)
        return found.traffic if found is not None else Traffic()

    def close(self) -> None:
        """Close all."""
        for forward in list(self._open):
            self.close_port(forward)
        self._rules.close()
        self._loop.close()
        self._channels.close()

    def describe(self) -> list[dict[str, Any]]:
        """Each open port and where it leads."""
        with self._lock:
            return [
                {
                    "protocol": forward.protocol,
                    "host": forward.host,
                    "port": forward.port,
                    "guest_host": forward.guest_host,
                    "guest_port": forward.guest_port,
                }
                for forward in sorted(self._open)
            ]

    def _make(self, forward: PortForward) -> TcpPort | UdpPort:
        for other in self._open:
            if (other.protocol, other.host, other.port) == (forward.protocol, forward.host, forward.port):
                raise OSError(
                    errno.EADDRINUSE, f"it already leads to port {other.guest_port} of {other.guest_host} in the guest"
                )
        if forward.protocol == "tcp":
            return TcpPort(forward, self._loop, self._rules, self._channels, self._crowded)
        if not forward.outside or not self._rules.able:
            raise OSError(
                errno.EOPNOTSUPP, "UDP cannot be led to one address of the guest; publish it without an address"
            )
        return UdpPort(forward, self._loop, self._rules, self._log)

    def _crowded(self) -> bool:
        return self._loop.watched > 2 * _CONNECTIONS_MOST


def _same_guest_port(one: PortForward, other: PortForward) -> bool:
    return (one.protocol, one.guest_port) == (other.protocol, other.guest_port)
