"""Readiness as named checks, so that a time-out says what was wrong."""

from __future__ import annotations

from dataclasses import dataclass


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
