"""Listeners on this computer whose connections are carried into the guest: the engine's socket and TCP ports."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from typing import TYPE_CHECKING

from hostvm.agent.relay import relay, reset
from hostvm.platform.local import LocalListener, close_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.ssh.process import SshStream

_BACKLOG = 256


class SocketForward:
    """A local socket (0600) whose connections go where `connect` leads.

    :param connect: opens the guest's end; may block while the machine boots.
    """

    def __init__(self, path: str, connect: Callable[[], SshStream], log: Callable[[str], None]) -> None:
        self._listener = LocalListener(path)
        self._connect = connect
        self._log = log
        threading.Thread(target=self._accept, name="engine-socket", daemon=True).start()

    def close(self) -> None:
        """Stop listening and remove the file; connections go on until their ssh connection ends."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), name="engine-relay", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        if not self._listener.admit(sock):
            sock.close()
            return
        try:
            stream = self._connect()
        except OSError as error:
            self._log(f"engine socket: {error}")
            reset(sock)
            return
        relay(sock, stream)


class _Port:
    """One listening TCP port and its connections."""

    def __init__(self, key: tuple[str, int], connect: Callable[[], SshStream]) -> None:
        self._connect = connect
        self._listener = _listen(*key)
        self._lock = threading.Lock()
        self._relayed: dict[socket.socket, SshStream | None] = {}
        self._closed = False
        threading.Thread(target=self._accept, name=f"port-{key[1]}", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        close_listener(self._listener)
        with self._lock:
            relayed = list(self._relayed.items())
        for sock, stream in relayed:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            if stream is not None:
                stream.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), name="port-relay", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._relayed[sock] = None
        try:
            if self._closed:
                reset(sock)
                return
            try:
                stream = self._connect()
            except OSError:
                reset(sock)  # nothing listens in the guest: as near to "connection refused" as one can come
                return
            with self._lock:
                self._relayed[sock] = stream
            relay(sock, stream)
        finally:
            with self._lock:
                del self._relayed[sock]


class Ports:
    """The host's TCP ports that lead into the guest."""

    def __init__(self, connect: Callable[[str, int], SshStream]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], tuple[_Port, tuple[str, int]]] = {}

    def open_port(self, host: str, port: int, guest_host: str, guest_port: int) -> None:
        """See `Host.open_port`; the same forward a second time changes nothing.

        :raises OSError: the port is taken, by another of ours too, or not allowed.
        """
        key, target = (host, port), (guest_host, guest_port)
        with self._lock:
            if key in self._open:
                if self._open[key][1] == target:
                    return
                raise OSError(f"{host}:{port} already leads to {self._open[key][1]}")
            self._open[key] = (_Port(key, lambda: self._connect(guest_host, guest_port)), target)

    def close_port(self, host: str, port: int) -> None:
        """See `Host.close_port`."""
        with self._lock:
            found = self._open.pop((host, port), None)
        if found is not None:
            found[0].close()

    def close(self) -> None:
        """Close all."""
        for host, port in list(self._open):
            self.close_port(host, port)

    def describe(self) -> list[dict[str, object]]:
        """Each open port and where it leads."""
        with self._lock:
            return [
                {"host": host, "port": port, "guest_host": target[0], "guest_port": target[1]}
                for (host, port), (_, target) in sorted(self._open.items())
            ]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # Windows' SO_REUSEADDR would let two programs share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
