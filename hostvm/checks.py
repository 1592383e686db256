"""Readiness as named checks, so that a time-out says what was wrong."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.console import with_last_lines
from hostvm.errors import GuestTimeout, MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hostvm.guest import Completed, Guest

_PAUSE = 0.1
_PAUSE_MOST = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold before a machine is called ready.

    :param command: argv run in the guest; status 0 means it holds.
    :param hint: what to look at when it does not, with a command to paste.
    :param fatal: a failure stops the start (the machine stays up for inspection); otherwise it is a warning.
    """

    name: str
    command: tuple[str, ...]
    hint: str
    fatal: bool = True


def run_checks(
    guest: Guest,
    checks: Sequence[Check],
    deadline: float,
    *,
    console: Path | None = None,
    report: Callable[[str], None] = lambda _text: None,
) -> list[str]:
    """Wait until every fatal check holds, in their order; the others are tried once and told as warnings.

    Between two tries passes at least twice the time a try took, so that waiting does not starve the guest.

    :param deadline: on `time.monotonic`'s clock; each check is tried at least once.
    :param console: the guest's console log, whose last lines go into the error.
    :param report: told each check's name as it is begun.
    :returns: one line for each check that failed without being fatal.
    :raises MachineError: a fatal check did not hold in time.
    :raises SshError: the connection was lost.
    """
    fatal = [check for check in checks if check.fatal]
    for number, check in enumerate(fatal, 1):
        report(f"check {number} of {len(fatal)}: {check.name}")
        last = _wait_for(guest, check, deadline)
        if last is not None:
            raise _failure(check, last, console)
    return [
        f"{check.name}: {check.hint} ({_words(last) or f'status {last.status}'})"
        for check in checks
        if not check.fatal and (last := _try(guest, check, deadline)) is not None
    ]


def _wait_for(guest: Guest, check: Check, deadline: float) -> Completed | None:
    pause = _PAUSE
    while True:
        begun = time.monotonic()
        last = _try(guest, check, deadline)
        now = time.monotonic()
        if last is None:
            return None
        pause = min(max(pause, 2 * (now - begun)), _PAUSE_MOST)
        if now + pause >= deadline:
            return last
        time.sleep(pause)
        pause = min(pause * 1.5, _PAUSE_MOST)


def _try(guest: Guest, check: Check, deadline: float) -> Completed | None:
    """None when the check holds."""
    from hostvm.guest import Completed

    timeout = max(5.0, deadline - time.monotonic())
    try:
        done = guest.run(check.command, timeout=timeout)
    except GuestTimeout as error:
        return Completed(255, b"", str(error).encode())
    return None if done.status == 0 else done


def _words(last: Completed) -> str:
    return (last.stderr + last.stdout).decode(errors="replace").strip()[-2000:]


def _failure(check: Check, last: Completed, console: Path | None) -> MachineError:
    parts = [f"{shlex.join(check.command)} ended with status {last.status}", _words(last)]
    error = MachineError(
        f"the machine is up, but this check failed: {check.name}",
        "\n".join(part for part in parts if part),
        check.hint,
    )
    return with_last_lines(error, console) if console is not None else error
