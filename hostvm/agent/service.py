"""What the agent runs besides forwarding: small long-lived jobs that need the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from hostvm.guest import Guest

    Operation: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
    """A request to a service: facts in, facts out; raises HostvmError."""
    Preparation: TypeAlias = Callable[[Guest], None]
    """Puts something in order in the guest before it is called ready; a failure is a warning."""


@dataclass(frozen=True, slots=True, order=True)
class PortForward:
    """A port of this computer that leads to one of the guest.

    :param protocol: tcp or udp.
    :param host: address of this computer, the only one that is bound.
    :param guest_host: where it leads, seen from inside the guest.
    :param outside: reports that the guest listens there on all its addresses, so that the hypervisor's network
        reaches it; otherwise only ssh does, which carries no UDP.
    """

    protocol: str
    host: str
    port: int
    guest_host: str
    guest_port: int
    outside: bool = True


@dataclass(slots=True)
class Traffic:
    """What was carried: bytes to the guest and from it, and how many connections (UDP: clients) there were."""

    up: int = 0
    down: int = 0
    connections: int = 0


class Forwards(Protocol):
    """The hypervisor's own way into the guest: ports of 127.0.0.1 that lead to the guest's address."""

    def add(self, protocol: str, host_port: int, guest_port: int) -> None:
        """Forward one more.

        :raises PortTaken: something on this computer has `host_port`.
        :raises HostvmError: the hypervisor refuses or does not answer in time.
        """

    def remove(self, protocol: str, host_port: int) -> None:
        """Forward it no more; connections go on. Idempotent."""

    def listed(self) -> list[tuple[str, int]]:
        """Protocol and host port of every forward."""


class Host(Protocol):
    """The agent's own abilities, handed to services.

    :param machine: whose agent it is; for what errors name and advise.
    """

    machine: str

    def open_port(self, forward: PortForward) -> None:
        """Listen on this computer and carry what comes into the guest. The same one again changes nothing.

        :raises OSError: the port is taken or not allowed; its text is for people.
        """

    def close_port(self, forward: PortForward) -> None:
        """Stop listening at once; connections get a few seconds to end by themselves. Idempotent."""

    def traffic(self, forward: PortForward) -> Traffic:
        """What it has carried since it was opened; nothing for one that is not open."""

    def idle(self) -> float:
        """Seconds since the machine was last in use; 0 while it is."""

    def serves(self) -> bool:
        """Whether a command or connection of somebody's is open now."""

    def log(self, text: str) -> None:
        """One line for agent.log."""

    def tell(self, text: str, *, everybody: bool = False) -> None:
        """One line for agent.log and for whoever runs a command now that asked for such lines.

        :param everybody: or did not ask: for what holds up every command.
        """


class Service(Protocol):
    """A job with the life of one ssh connection."""

    name: str
    early: bool  # reports that it begins as soon as ssh answers, before the engine does

    def start(self, guest: Guest, host: Host) -> None:
        """Begin, in own threads; called after every (re)connection, once the machine is ready.

        An early one may take its time: the machine is ready only after it has returned.
        """

    def stop(self) -> None:
        """End own threads; called when the connection ends or the agent stops.

        Open ports may stay for the next connection; the agent closes them at its own end.
        """

    def describe(self) -> dict[str, Any]:
        """Facts for `hostvm status --json`."""


@runtime_checkable
class Begins(Protocol):
    """What a service may be able to do besides."""

    def begin(self, host: Host) -> None:
        """Once, before there is a connection: what a guest that runs already may be waiting for."""

    def end(self) -> None:
        """Once, when the agent ends in order, after `Service.stop`."""


@runtime_checkable
class Settles(Protocol):
    """What a service may be able to do besides."""

    def settle(self, timeout: float) -> bool:
        """Return when what happened in the guest before this call has taken effect here, or `timeout` seconds passed.

        False in the latter case.

        Asked before a command that started containers ends, so that their ports are open when it has.
        """


@runtime_checkable
class GivesWay(Protocol):
    """What a service may say besides."""

    gives_way: bool
    """That it can begin a moment later: it watches what the engine does, and asks it a lot when it begins."""


@runtime_checkable
class Uses(Protocol):
    """What a service may be able to do besides."""

    def in_use(self) -> bool:
        """Whether something in the guest works that must not be put to sleep; answers at once, from what it knows."""


@runtime_checkable
class Notices(Protocol):
    """What a service may be able to do besides."""

    def answers_again(self) -> None:
        """The guest did not answer for a second or more, and does again: somebody may have paused it. Returns at once.

        May be called without a connection, and by any thread.
        """
