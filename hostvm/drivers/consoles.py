"""The file that holds a guest's serial console: this boot's, and what was there before beside it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hostvm.console import what_stays
from hostvm.files import move, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

CONSOLE_MOST = 8 * 1024 * 1024
"""Bytes of a console; what a guest says beyond that makes it be cut."""


def previous_console(console: Path) -> Path:
    """Where the boot before this one is kept, or what was cut from this one's."""
    return console.with_name(f"{console.name}.1")


def rotate_console(console: Path) -> None:
    """Move the last boot's text aside and begin an empty file (0600), before a hypervisor opens it."""
    if console.exists() and console.stat().st_size:
        move(console, previous_console(console))
    os.close(os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))


def cut_console(console: Path, most: int = CONSOLE_MOST) -> bool:
    """Make a console short again that has grown past its limit while its hypervisor appends to it; False for others.

    Its text goes to the previous console's file: the last `most` bytes where it is more than twice that, none where the
    disk has no room. The lines that are looked for here stay: marks of a boot or a stop, faults, panics. What the guest
    says in the instant of the cut is lost.

    :raises OSError: it cannot be cut: on Windows nobody else may write to a file that QEMU has open.
    """
    try:
        size = console.stat().st_size
    except FileNotFoundError:
        return False
    if size <= most:
        return False
    kept = previous_console(console)
    with console.open("r+b") as file:
        file.seek(0 if size <= 2 * most else size - most)
        with suppress(OSError):
            write_atomic(kept, file.read())
            with kept.open("ab") as more:
                more.write(file.read())  # what came until that was on the disk
        stays = what_stays(console)
        # Over what was there, then shorter: a reader never finds an empty file, or the next words before these.
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        file.seek(0)
        file.write(f"hostvm: {stamp} grown past {most} bytes and cut; what was here: {kept.name}\n".encode() + stays)
        file.truncate()
    return True
