"""Room on the data disk as the guest sees it, asked only when somebody wants to know; and what to do for want of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.agent.client import run_in_guest
from hostvm.engines import WITHOUT_DOCKER_API
from hostvm.errors import MachineError
from hostvm.sizes import MIB, format_size
from hostvm.spec import load_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Completed, Guest
    from hostvm.paths import MachinePaths
    from hostvm.spec import MachineSpec

_DF = ("df", "-B1", "--output=size,used,avail", "/var")
_USED_MOST = 0.9
_FREE_LEAST = 512 * MIB
_FULL = MIB
_SECONDS = 2.0
"""That the user of a failed command waits for its explanation at most."""

_ROOM_SECONDS = 10.0
"""That a disk with much room is taken to have some: whoever tries again and again until something is there (a database
that answers, say) has the guest asked once in that time, not each time."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a file system.

    :param free: what containers can have; the guest's root has some more.
    """

    size: int
    used: int
    free: int

    @property
    def nearly_full(self) -> bool:
        """Whether it is worth a word."""
        return self.used > _USED_MOST * (self.used + self.free) or self.free < _FREE_LEAST

    @property
    def full(self) -> bool:
        """Whether containers and builds fail for want of it."""
        return self.free < _FULL


def guest_room(paths: MachinePaths, *, timeout: float = 60.0) -> Room:
    """Of a running machine's data disk. It does not count as use.

    :raises HostvmError: the guest cannot be asked.
    """
    done = run_in_guest(paths.run_dir, _DF, timeout=timeout)
    room = _read(done)
    if room is None:
        why = done.stderr.decode(errors="replace").strip()
        raise MachineError(f"the guest of machine {paths.name} tells no sizes", why, f"hostvm shell {paths.name}")
    return room


def way_out(name: str, spec: MachineSpec) -> str:
    """The commands that make room."""
    larger = f"hostvm set {name} disk={format_size(2 * spec.disk)}"
    return larger if spec.engine in WITHOUT_DOCKER_API else f"hostvm prune --all {name}, or {larger}"


class Explainer:
    """Why commands in a machine's guest fail, for its agent.

    :param clock: seconds, which only go on.
    """

    def __init__(self, paths: MachinePaths, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._clock = clock
        self._has_room_until = 0.0

    def why_failed(self, guest: Guest) -> str:
        """What a command's user should know who was told only that it failed; "" when the disk is not full.

        :raises HostvmError: the guest cannot be asked, or machine.yaml not be read.
        """
        if self._clock() < self._has_room_until:
            return ""
        room = _read(guest.run(_DF, timeout=_SECONDS))
        if room is None or not room.full:
            if room is not None and not room.nearly_full:
                self._has_room_until = self._clock() + _ROOM_SECONDS
            return ""
        name = self._paths.name
        return f"the data disk of machine {name} is full: {way_out(name, load_spec(self._paths.spec))}"


def _read(done: Completed) -> Room | None:
    numbers = done.stdout.decode(errors="replace").split()[-3:]
    if done.status != 0 or len(numbers) != 3 or not all(map(str.isdecimal, numbers)):  # noqa: PLR2004 - of `_DF`
        return None
    return Room(*map(int, numbers))
