"""Saving a guest's memory and devices through QEMU's monitor, and loading them: a migration to a file and from one.

QEMU 9.0 and later write each page at a place of its own (capability mapped-ram), which loads several times faster;
older ones write a stream. Why not `savevm`: docs/adr/0070-suspend-to-a-file.md.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from hostvm.errors import DriverError
from hostvm.full_disk import explained
from hostvm.platform.words import free_room, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.drivers.qemu.qmp import Qmp

MAPPED_RAM = (9, 0)
"""The first QEMU that has it."""

TRANSFER_SECONDS = 600.0
"""The longest that one transfer may take: 64 GiB to a slow disk."""

_POLL = 0.01
_NO_LIMIT = 1 << 40
_QUICK = 10.0
_NAME = "state"
_LOOK = in_turn("Look at what the hypervisor says: hostvm logs --console", free_room(), between="; ")


def hypervisor_text(version: tuple[int, int, int]) -> str:
    """Names a QEMU as what its saved states belong to."""
    return "QEMU " + ".".join(str(part) for part in version)


def is_mapped(version: tuple[int, int, int]) -> bool:
    """Whether this QEMU's states are mapped files rather than streams."""
    return version[:2] >= MAPPED_RAM


def write_state(qmp: Qmp, target: Path, commit: Callable[[str], None]) -> None:
    """Stop the guest, write its state to `target` and call `commit`; QEMU is left stopped, its disks closed.

    When anything fails the guest runs on, and `target` is gone.

    :raises DriverError: QEMU refuses or fails, with its words.
    """
    try:
        target.unlink(missing_ok=True)
        qmp.execute("stop", timeout=_QUICK)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _prepare(qmp)
            if is_mapped(qmp.version):
                place = f"file:{target}"
            else:
                qmp.execute("getfd", {"fdname": _NAME}, descriptor=descriptor)
                place = f"fd:{_NAME}"
            qmp.execute("migrate", {"uri": place}, timeout=_QUICK)
            _finish(qmp, "saved", target.parent)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        commit(hypervisor_text(qmp.version))
    except BaseException:
        target.unlink(missing_ok=True)
        with contextlib.suppress(DriverError):
            run_on(qmp)
        raise


def read_state(qmp: Qmp, source: Path, descriptor: int) -> None:
    """Load a state into a QEMU that was started with `-incoming defer -S`.

    :param descriptor: `source`, opened for reading, which QEMU has inherited.
    :raises DriverError: it is damaged, or another board's; QEMU ends or is of no use.
    """
    _prepare(qmp)
    place = f"file:{source}" if is_mapped(qmp.version) else f"fd:{descriptor}"
    qmp.execute("migrate-incoming", {"uri": place}, timeout=TRANSFER_SECONDS)
    _finish(qmp, "loaded", source.parent)


def run_on(qmp: Qmp) -> None:
    """Let a stopped guest run, one in the midst of a save too.

    :raises DriverError: it does not.
    """
    with contextlib.suppress(DriverError):
        qmp.execute("migrate_cancel", timeout=_QUICK)
    deadline = time.monotonic() + _QUICK
    while True:
        # Silently ignored while a migration ends.
        qmp.execute("cont", timeout=_QUICK)
        status = qmp.execute("query-status")["status"]
        if status == "running":
            return
        if time.monotonic() > deadline:
            raise DriverError("the machine does not run on", f"QEMU says: {status}", "hostvm stop --force")
        time.sleep(_POLL)


def _prepare(qmp: Qmp) -> None:
    qmp.execute("migrate-set-parameters", {"max-bandwidth": _NO_LIMIT})
    if is_mapped(qmp.version):
        qmp.execute("migrate-set-capabilities", {"capabilities": [{"capability": "mapped-ram", "state": True}]})


def _finish(qmp: Qmp, word: str, folder: Path) -> None:
    deadline = time.monotonic() + TRANSFER_SECONDS
    while True:
        told = qmp.execute("query-migrate", timeout=TRANSFER_SECONDS)
        if told.get("status") == "completed":
            return
        if told.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
            why = told.get("error-desc") or f"the transfer is {told.get('status')}"
            raise DriverError(f"the machine's memory could not be {word}", *(explained(why, folder) or (why, _LOOK)))
        time.sleep(_POLL)
