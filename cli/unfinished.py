"""Names of what `-o` makes, while it is being written; what killed commands left of theirs goes with the next one.

.NAME.COMPUTER-PID-PROCESS.part   COMPUTER and PROCESS are hashes: a folder may belong to several computers, and the
    system gives a number to another process later
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from hostvm.process_id import ProcessId, identify

if TYPE_CHECKING:
    from pathlib import Path

_PART = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]{1,9})-([0-9a-f]{8})\.part", re.DOTALL)


def new_part(target: Path) -> Path:
    """Where to write what is to appear as `target` when it is whole: beside it.

    What killed commands left in that folder is removed.

    :raises OSError: this process cannot be looked at, for want of descriptors or memory.
    """
    own = identify(os.getpid())
    if own is not None:  # or nobody's life can be told here
        with suppress(OSError):  # a folder that may be written to and not read
            for path in target.parent.iterdir():
                if (found := _PART.fullmatch(path.name)) and found[1] == _computer():
                    _remove_left(path, int(found[2]), found[3])
    return part_name(target, own or ProcessId(os.getpid(), 0.0))


def part_name(target: Path, writer: ProcessId) -> Path:
    """What a process of this computer calls it until it is whole."""
    return target.with_name(f".{target.name}.{_computer()}-{writer.pid}-{_process(writer)}.part")


def _remove_left(path: Path, pid: int, process: str) -> None:
    if _is_gone(pid, process):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_gone(pid: int, process: str) -> bool:
    import psutil  # takes its time, and there are hardly ever any

    found = identify(pid)
    if found is not None:
        return _process(found) != process
    return not psutil.pid_exists(pid)  # another user's may be hidden


def _computer() -> str:
    return _short(platform.node())


def _process(process: ProcessId) -> str:
    return _short(f"{process.started} {process.boot}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
