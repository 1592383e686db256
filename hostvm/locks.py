"""One command at a time changes a machine; who waits is told for whom."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from hostvm.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostvm.paths import MachinePaths

LOCK_TIMEOUT = 120.0


@contextmanager
def machine_lock(paths: MachinePaths, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the machine's lock, waiting up to `timeout` seconds.

    The system drops the lock with the process that holds it, so a killed command leaves none behind.

    :raises MachineError: somebody else still holds it; the details say who.
    """
    paths.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    holder = paths.lock.with_suffix(".holder")
    try:
        with FileLock(paths.lock, timeout=timeout, mode=0o600):
            words = " ".join(sys.argv[1:])[:200] or "hostvm"
            # A name of a file need not be UTF-8.
            holder.write_text(f"process {os.getpid()}: {words}\n", encoding="utf-8", errors="backslashreplace")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout as fault:
        raise MachineError(
            f"machine {paths.name} is busy",
            f"{_who(holder)} has held it for {timeout:.0f} s",
            f"look with: hostvm status {paths.name}",
        ) from fault


def _who(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"  # gone a moment ago, or not written yet
