"""Reading and setting a guest's clock over ssh, to a few milliseconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hostvm.errors import SshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.guest import Guest

TOLERANCE = 0.02
"""Seconds that a guest may be off before it is set."""

_SAMPLES = 3
_TRIES = 4

# One bash that stays: its own clock variable costs no program's start, which takes an emulated guest 20 ms, and one
# that has no memory left seconds. `date` is told by how much, not what time it is: that would be over when it begins.
_SCRIPT = r"""
while read -r word value; do
    if [ "$word" = shift ]; then
        sign=${value%%[0-9]*} micros=${value#-}
        printf -v by '%s%d.%06d seconds' "$sign" $((micros / 1000000)) $((micros % 1000000))
        date -s "$by" > /dev/null || exit 1
    fi
    echo "$EPOCHREALTIME"
done
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The guest's clock less this computer's.

    :param off: seconds; positive when the guest is ahead.
    :param within: seconds that `off` may be wrong by: half of the way there and back.
    """

    off: float
    within: float

    @property
    def serves(self) -> bool:
        """Whether a clock that is set by it is sure to be less wrong than it was."""
        return abs(self.off) > TOLERANCE and self.within * 2 < abs(self.off)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a look at a clock led to; seconds as in `Reading`."""

    before: float
    after: float
    within: float
    times_set: int

    @property
    def settled(self) -> bool:
        """Whether the clock was seen to be right."""
        return abs(self.after) <= TOLERANCE

    @property
    def may_be_right(self) -> bool:
        """Whether nothing better was to be had by setting it."""
        return not Reading(self.after, self.within).serves


class Clock(Protocol):
    """A clock that can be corrected."""

    def correct(self) -> Correction:
        """Look, and set it when it is wrong and known better than it is."""


class GuestClock:
    """The clock of a guest, through one program that stays there until `close`.

    :raises SshError: the guest does not start programs.
    """

    def __init__(self, guest: Guest) -> None:
        self._process = guest.stream(["/bin/bash", "-c", _SCRIPT], env={"LC_ALL": "C", "TZ": "UTC0"})
        self._rest = b""

    def close(self) -> None:
        """End the program. Idempotent; from any thread."""
        self._process.close_stdin()
        self._process.close()

    def correct(self) -> Correction:
        """See `Clock.correct`.

        :raises OSError, SshError: the guest is gone, or does not let its clock be set.
        """
        found = before = self._read()
        times = 0
        while found.serves and times < _TRIES:
            self._ask(f"shift {round(-found.off * 1_000_000)}\n")
            times += 1
            found = self._read()
        return Correction(round(before.off, 4), round(found.off, 4), round(found.within, 4), times)

    def _read(self) -> Reading:
        return best([sample(lambda: self._ask("look\n")) for _ in range(_SAMPLES)])

    def _ask(self, line: str) -> float:
        self._process.write_stdin(line.encode())
        while b"\n" not in self._rest:
            more = self._process.read_stdout(4096)
            if not more:
                said = self._process.read_stderr(4096).decode(errors="replace").strip()
                raise SshError("the guest's clock cannot be read or set", said or None, "hostvm shell -- date")
            self._rest += more
        told, _, self._rest = self._rest.partition(b"\n")
        return float(told)


def sample(ask: Callable[[], float], clock: Callable[[], float] = time.time) -> Reading:
    """Ask once; the guest is taken to have looked in the middle of the way there and back."""
    sent = clock()
    told = ask()
    took = clock() - sent
    return Reading(told - (sent + took / 2), abs(took) / 2)


def best(readings: list[Reading]) -> Reading:
    """The one that took the shortest way."""
    return min(readings, key=lambda one: one.within)
