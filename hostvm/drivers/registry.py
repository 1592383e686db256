"""Which driver a machine gets, and making one; drivers are imported only when they are used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hostvm.errors import DriverError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from hostvm.drivers.base import Driver

DRIVERS = ("qemu", "libvirt")

AUTO_TIMEOUT = 3.0
"""Seconds that an automatic choice waits for libvirt."""


def pick_driver(wanted: str, uri: str | None = None) -> str:
    """What was asked for; with "auto", "libvirt" if a connection opens, else "qemu".

    :param uri: libvirt's; None for its default, the user's own session.
    :raises SpecError: unknown word.
    """
    if wanted in DRIVERS:
        return wanted
    if wanted != "auto":
        raise SpecError(f"unknown driver {wanted!r}", None, f"Use one of: --driver auto|{'|'.join(DRIVERS)}")
    if sys.platform == "win32":
        return "qemu"  # libvirt is only a client there
    from hostvm.drivers.libvirt.connection import DEFAULT_URI, connected

    try:
        with connected(uri or DEFAULT_URI, AUTO_TIMEOUT):
            return "libvirt"
    except DriverError:
        if uri:
            raise  # it was named: falling back would start the machine somewhere else
        return "qemu"


def open_driver(kind: str, *, name: str, uuid: str, run_dir: Path, uri: str | None = None) -> Driver:
    """The driver of one machine.

    :param kind: "qemu" or "libvirt".
    :raises SpecError: unknown word.
    """
    if kind == "qemu":
        from hostvm.drivers.qemu.driver import QemuDriver

        return QemuDriver(name, uuid, run_dir)
    if kind == "libvirt":
        from hostvm.drivers.libvirt.driver import LibvirtDriver

        return LibvirtDriver(name, uuid, uri)
    raise SpecError(f"unknown driver {kind!r}", None, f"Use one of: {', '.join(DRIVERS)}")
