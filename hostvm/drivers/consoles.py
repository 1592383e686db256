"""The file that holds a guest's serial console: this boot's, and the one before beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def previous_console(console: Path) -> Path:
    """Where the boot before this one is kept."""
    return console.with_name(f"{console.name}.1")


def rotate_console(console: Path) -> None:
    """Move the last boot's text aside and begin an empty file (0600), before a hypervisor opens it."""
    if console.exists() and console.stat().st_size:
        console.replace(previous_console(console))
    os.close(os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
