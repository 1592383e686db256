"""One command at a time changes a machine, or what machines have in common; who waits is told for whom.

What only looks takes no lock, so it works in a HOSTVM_HOME that is read-only, too.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from hostvm.errors import ImageError, MachineError
from hostvm.platform.words import set_variable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostvm.paths import MachinePaths

LOCK_TIMEOUT = 120.0

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class BusyError(MachineError):
    """Another command has held a lock for longer than it was waited for."""


@contextmanager
def home_lock(path: Path, timeout: float, busy: str, way: str) -> Iterator[None]:
    """Hold a lock among `HOSTVM_HOME/locks`, whose folder is made, waiting up to `timeout` seconds; with 0 not at all.

    The system drops the lock with the process that holds it, so a killed command leaves none behind.

    :param busy: what is said when somebody else still holds it, and `way` what to do then.
    :raises BusyError: somebody else does, and the details say who.
    :raises MachineError: HOSTVM_HOME cannot be written.
    """
    holder = path.with_suffix(".holder")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(path, timeout=timeout, mode=0o600)
        lock.acquire()
    except Timeout as fault:  # which is an OSError, too
        held = f"has held it for {timeout:.0f} s" if timeout else "holds it"
        raise BusyError(busy, f"{_who(holder)} {held}", way) from fault
    except OSError as fault:
        if fault.errno not in UNWRITABLE:
            raise
        raise unwritable(path.parent.parent, fault) from fault
    try:
        words = " ".join(sys.argv[1:])[:200] or "hostvm"
        with suppress(OSError):  # of a full disk too, where `rm` makes room
            # A name of a file need not be UTF-8.
            holder.write_text(f"process {os.getpid()}: {words}\n", encoding="utf-8", errors="backslashreplace")
        yield
    finally:
        with suppress(OSError):  # whoever waits may be reading it, and on Windows it cannot be deleted then
            holder.unlink(missing_ok=True)
        lock.release()


def unwritable(home: Path, fault: OSError) -> MachineError:
    """The one error for a HOSTVM_HOME in which nothing can be changed."""
    read_only = fault.errno == errno.EROFS
    return MachineError(
        f"HOSTVM_HOME {'is read-only' if read_only else 'cannot be written'}: {home}",
        f"{fault.strerror}: {fault.filename}\n"
        "hostvm ls, status, inspect and logs work all the same, as do commands in a machine that runs",
        _writable_again(home, "HOSTVM_HOME", "hostvm", read_only=read_only),
    )


def unwritable_cache(cache: Path, fault: OSError) -> ImageError:
    """The same for a HOSTVM_CACHE, or for a part of it that another user's command has left."""
    read_only = fault.errno == errno.EROFS
    return ImageError(
        f"HOSTVM_CACHE {'is read-only' if read_only else 'cannot be written'}: {cache}",
        f"{fault.strerror}: {fault.filename}",
        _writable_again(cache, "HOSTVM_CACHE", "hostvm-cache", read_only=read_only),
    )


def _writable_again(wanted: Path, variable: str, other: str, *, read_only: bool) -> str:
    """:param other: a folder's name, for another value of the variable."""
    if sys.platform == "win32":
        return f"choose another folder: {set_variable(variable, f'C:{chr(92)}{other}')}"
    # By os: what another user hides is an error to pathlib.
    there = next(folder for folder in (wanted, *wanted.parents) if os.path.exists(folder))  # noqa: PTH110
    another = f"choose another folder: {set_variable(variable, f'~/{other}')}"
    place = shlex.quote(str(there))
    if read_only and sys.platform == "darwin":
        mounted = next(folder for folder in (there, *there.parents) if folder.is_mount())
        return f"make it writable: sudo mount -uw {shlex.quote(str(mounted))}\nor {another}"
    if read_only:  # findmnt knows mounts within one file system too, which their numbers do not tell
        return f'make it writable: sudo mount -o remount,rw "$(findmnt -n -o TARGET -T {place})"\nor {another}'
    if os.geteuid() not in (there.stat().st_uid, there.parent.stat().st_uid):
        return another
    # A command as root may have left files there, or made all of it.
    return f'make it yours again: sudo chown -R "$(id -un)" {place} && chmod -R u+rwX {place}'


@contextmanager
def machine_lock(paths: MachinePaths, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the machine's lock, waiting up to `timeout` seconds; raises as `home_lock`."""
    with home_lock(paths.lock, timeout, f"machine {paths.name} is busy", f"look with: hostvm status {paths.name}"):
        yield


def _who(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"  # gone a moment ago, or not written yet
