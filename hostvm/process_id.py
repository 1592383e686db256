"""Who a process is, whether it still lives, and its end.

A number alone does not tell: the system gives it to another one later.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm.errors import HostvmError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing of the process that was asked for."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number.

    :param started: when it started, in the system's own terms; only good for comparing.
    :param boot: of this computer, where `started` counts from it (Linux); "" elsewhere, and in what was written before.
    """

    pid: int
    started: float
    boot: str = ""

    @classmethod
    def of(cls, facts: Sequence[float | str]) -> ProcessId:
        """The process of such facts.

        :raises ValueError, TypeError: they are none.
        """
        pid, started, *boot = facts
        return cls(int(pid), float(started), *map(str, boot))

    def facts(self) -> list[float | str]:
        """It as plain facts, for a file that may outlive this boot."""
        return [self.pid, self.started, self.boot]


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None when there is none, or only a zombie without threads.

    :raises OSError: Linux cannot be asked, for want of descriptors or memory.
    """
    if sys.platform == "linux":
        # psutil adds the boot time, which moves when the clock is set; the kernel's own ticks do not.
        try:
            fields = _stat_fields(pid)
        except OSError as fault:
            if fault.errno in _NOT_NOW:
                raise
            return None
        # Of one that was killed the first thread may be dead while others still hold its files: no zombie yet.
        ended = fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1)
        return None if ended else ProcessId(pid, float(fields[19]), linux_boot())
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else ProcessId(pid, _started(process))
    except psutil.Error:
        return None


def _started(process: Any) -> float:
    """When it started, by the clock of then.

    psutil 7.1 and later move that on macOS when the clock is set, in processes that loaded psutil before: to an agent
    everybody would be somebody else from then on.
    """
    try:
        return float(process._proc.create_time(monotonic=True))  # noqa: SLF001 - nothing else tells
    except (AttributeError, TypeError):  # an older psutil, or Windows: it never moves
        return float(process.create_time())


@cache
def linux_boot() -> str:
    """Names this boot of the computer; "" where that is not Linux, or it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _stat_fields(pid: int) -> list[bytes]:
    """Of proc_pid_stat(5), from the third on: the second is a name that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs.

    :raises OSError: as `identify`.
    """
    found = identify(process.pid)
    return found is not None and found.started == process.started and process.boot in {"", found.boot}


def command_of(pid: int) -> tuple[str, ...]:
    """The argv a process was started with; empty when it is gone or not ours to see."""
    import psutil

    try:
        return tuple(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ()


def is_ending(pid: int) -> bool:
    """Whether a process was killed or ends, and is still there; it has no command any more, but may hold its files.

    Only Linux tells (PF_EXITING in proc_pid_stat(5)'s flags); elsewhere False.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(int(_stat_fields(pid)[6]) & 0x4)
    except OSError:
        return False


def wait_gone(process: ProcessId, timeout: float) -> bool:
    """Wait up to `timeout` seconds for this very process to end (a zombie has ended); False when it still runs.

    :raises OSError: as `identify`.
    """
    deadline = time.monotonic() + timeout
    if sys.platform == "linux":
        # No descriptor is left, or the system refuses (gVisor, older kernels and containers' filters): looked at below.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(process.pid)
            try:
                poller = select.poll()
                poller.register(descriptor, select.POLLIN)
                if is_alive(process):
                    poller.poll(max(0, math.ceil(timeout * 1000)))
            finally:
                os.close(descriptor)
            return not is_alive(process)
    while is_alive(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def kill(process: ProcessId, *, timeout: float = 5.0) -> bool:
    """Kill this very process and wait for its end; False when it still lives after `timeout` seconds.

    :raises HostvmError: it belongs to another user.
    """
    import psutil

    if is_alive(process):
        try:
            psutil.Process(process.pid).kill()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied as error:
            from hostvm.platform.words import end_process

            who = "an administrator" if sys.platform == "win32" else "root"
            raise HostvmError(
                f"process {process.pid} belongs to another user",
                str(error),
                f"End it as that user or as {who}: {end_process(process.pid)}",
            ) from error
    return wait_gone(process, timeout)
