"""What an agent runs for its machine besides forwarding; put together by whoever knows the machine's engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hostvm.agent.relay import PassOn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hostvm.agent.relay import Examine
    from hostvm.agent.service import Operation, Preparation, Service
    from hostvm.checks import Check
    from hostvm.guest import Guest


def _same(path: str) -> str | None:
    return path


def _ignore(told: str) -> None:
    del told


def _know_nothing(guest: Guest) -> str:
    del guest
    return ""


def _provide_nothing(mode: str, guest: Guest, say: Callable[[str], None]) -> None:
    del mode, guest, say


@dataclass(frozen=True, slots=True)
class Parts:
    """All of it may be empty: then the agent only forwards.

    :param services: jobs with the life of a connection.
    :param checks: must hold before the machine is called ready.
    :param preparations: run in the guest on every connection, before the machine is called ready.
    :param provision: runs the scripts of a mode; its faults end the start.
    :param operations: requests that services answer, by their names.
    :param find_folder: where a folder of this computer is in the guest, for programs to start in.
    :param explain: why a client's program in the guest may have failed, in a line for its user; "" for no idea. May
        raise anything.
    :param hear: told the ssh agent's socket of each command's user.
    :param examine: makes what looks at one docker client's requests before the engine gets them; it holds up its own
        connection alone.
    """

    services: Sequence[Service] = ()
    checks: Sequence[Check] = ()
    preparations: Sequence[Preparation] = ()
    provision: Callable[[str, Guest, Callable[[str], None]], None] = _provide_nothing
    operations: Mapping[str, Operation] = field(default_factory=dict)
    find_folder: Callable[[str], str | None] = _same
    hear: Callable[[str], None] = _ignore
    explain: Callable[[Guest], str] = _know_nothing
    examine: Callable[[], Examine] = PassOn
