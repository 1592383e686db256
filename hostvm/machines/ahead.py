"""What a command may begin before it has imported what wakes a machine: QEMU needs a moment to tell its version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostvm.paths import MachinePaths


def look_ahead(paths: MachinePaths) -> None:
    """Have QEMU asked what it is, if the machine is suspended; returns at once, never raises.

    Whoever needs the answer waits for it, and is told there of what is wrong.
    """
    if not paths.suspended.exists():
        return
    from hostvm.errors import HostvmError
    from hostvm.qemu_binary import ask_ahead
    from hostvm.state import load_state

    try:
        arch = load_state(paths).arch
    except HostvmError:
        return
    ask_ahead(arch)
