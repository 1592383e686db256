"""What the agent runs besides forwarding: small long-lived jobs that need the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hostvm.guest import Guest


class Host(Protocol):
    """The agent's own abilities, handed to services."""

    def open_port(self, host: str, port: int, guest_host: str, guest_port: int) -> None:
        """Listen on the host's (host, port) and carry each connection into the guest.

        :raises OSError: the port is taken or not allowed.
        """

    def close_port(self, host: str, port: int) -> None:
        """Stop listening and end its connections. Idempotent."""

    def log(self, text: str) -> None:
        """One line for agent.log."""


class Service(Protocol):
    """A job with the life of one ssh connection."""

    name: str

    def start(self, guest: Guest, host: Host) -> None:
        """Begin, in own threads; called after every (re)connection, once the machine is ready."""

    def stop(self) -> None:
        """End and undo what was opened on the host; called when the connection ends or the agent stops."""

    def describe(self) -> dict[str, Any]:
        """Facts for `hostvm status --json`."""
