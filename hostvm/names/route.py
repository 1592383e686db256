"""Who has a container of that name: an engine's answer, and the protocol in which agents ask each other."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostvm.guest import Guest

REQUEST_MOST = 4096
"""Bytes of one line of JSON: {"labels": [...]} asks for a way, {} for all names, {"held": true} for the port that the
agent holds for all machines (null: none). The answer is such a line too; after {"found": true} the stream is the
container's. One without may say why: {"status": ..., "why": ...}, with {"unsure": true} where the engine is silent."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container answers, seen from inside the guest."""

    host: str
    port: int


class Router(Protocol):
    """Knows the containers of one machine; implemented by its engine."""

    def find(self, guest: Guest, labels: Sequence[str]) -> Target | None:
        """The container that these labels name, as it is now.

        :raises OSError: the engine does not answer.
        """

    def names(self, guest: Guest) -> list[str]:
        """The names of all containers that run, as they are typed before the domain.

        :raises OSError: the engine does not answer.
        """


class LocalStream:
    """A socket to another agent, as `hostvm.guest.GuestStream`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.lost = False

    def recv(self, size: int) -> bytes:
        """See `Stream.recv`."""
        try:
            return self._socket.recv(size)
        except OSError:
            self.lost = True
            return b""

    def sendall(self, data: bytes) -> None:
        """See `Stream.sendall`."""
        self._socket.sendall(data)

    def shutdown_write(self) -> None:
        """See `Stream.shutdown_write`."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Stream.close`; wakes a reader."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
