"""How far a guest's clock is off this computer's."""

from __future__ import annotations

import contextlib
import subprocess
import time

from machines import HOSTVM

CLOSE = 0.1
"""Seconds that a guest's clock may be off."""


@contextlib.contextmanager
def asking(machine):
    """`ask()` is the guest's time of day, from a program that stays there: only the way there and back takes time."""
    argv = [str(HOSTVM), "-m", machine.name, "shell", "--", "bash", "-c", "while read -r; do echo $EPOCHREALTIME; done"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:

        def ask() -> float:
            program.stdin.write("\n")
            program.stdin.flush()
            return float(program.stdout.readline())

        ask()  # it has begun
        yield ask
        program.stdin.close()


def most_off(ask, ahead: float = 0.0) -> float:
    """Seconds that the guest's clock is off at most: where in the way there and back it looked is not known.

    :param ahead: added to this computer's clock before it is compared.
    """
    found = []
    for _ in range(5):
        before = time.time() + ahead
        told = ask()
        found.append(max(abs(told - before), abs(time.time() + ahead - told)))
    return min(found)
