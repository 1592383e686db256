"""The one place where errors become text on stderr and exit statuses, and where notes are told."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from hostvm.errors import HostvmError, UsageError
from hostvm.paths import cache, home
from hostvm.plain import plain

FORWARD_FAILED = 125


def tell(text: str) -> None:
    """A line for people, on stderr. What a guest put into it cannot steer a terminal."""
    sys.stderr.write(plain(text) + "\n")


def print_failure(fault: Exception, *, forwarded: bool, verbose: int) -> int:
    """Tell what failed, why and what to do next; return the exit status. A traceback only with -v."""
    error = fault if isinstance(fault, HostvmError) else _unforeseen(fault)
    lines = [f"hostvm: {error.brief}"]
    if error.details:
        lines += [f"  {line}" for line in error.details.splitlines()]
    if error.resolution:
        lines += [f"  -> {line}" if number == 0 else f"     {line}" for number, line in _numbered(error.resolution)]
    with suppress(OSError):  # where nobody can be told, the status still says what it was
        tell("\n".join(lines))
        if verbose:
            import traceback

            from images.addresses import without_login

            # It is for a report, and others' faults tell addresses whole.
            tell(without_login("".join(traceback.format_exception(fault)).rstrip("\n")))
    if forwarded and type(error) is not UsageError:  # wrong words stay a usage error; all else is "could not run it"
        return FORWARD_FAILED
    return error.exit_status


def _numbered(text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.splitlines()))


def _unforeseen(fault: Exception) -> HostvmError:
    if isinstance(fault, OSError) and _is_full(fault):
        from hostvm.platform.words import free_room

        full = _full_places()
        there = "".join(f"\n{place}: {left} free" for place, left in full)
        where = f": {free_room(*(place for place, _ in full))}" if full else ""
        return HostvmError(
            "the disk is full", f"{fault}{there}", f"free some space{where}\nthen run the same command again"
        )
    if isinstance(fault, OSError) and fault.errno == errno.EROFS and str(fault.filename).startswith(str(home())):
        from hostvm.locks import unwritable

        return unwritable(home(), fault)
    if isinstance(fault, OSError) and _is_of_cache(fault):
        from hostvm.locks import unwritable_cache

        return unwritable_cache(cache(), fault)
    if isinstance(fault, OSError):
        return HostvmError("the system refused", str(fault), "run the same command with -v to see where")
    return HostvmError(
        f"this is a defect of hostvm: {type(fault).__name__}",
        str(fault) or None,
        "run the same command with -v and report what it prints",
    )


def _is_full(fault: OSError) -> bool:
    from images.disk import is_full

    return is_full(fault)


def _full_places() -> list[tuple[str, str]]:
    """Which of hostvm's own folders have no room, and what is left there."""
    import shutil

    from hostvm.machines.stalled import ROOM
    from hostvm.sizes import human_size

    found = []
    for folder in dict.fromkeys((home(), cache())):
        with suppress(OSError):
            if (free := shutil.disk_usage(folder).free) < ROOM:
                found.append((str(folder), human_size(free)))
    return found


def _is_of_cache(fault: OSError) -> bool:
    """Whether a folder or file of the cache, or what it would be made in, may not be changed."""
    from pathlib import Path

    from hostvm.locks import UNWRITABLE

    if fault.errno not in UNWRITABLE or not isinstance(fault.filename, str):
        return False
    place, folder = Path(fault.filename), cache()
    return place.is_relative_to(folder) or folder.is_relative_to(place)
