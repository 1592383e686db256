"""Ports of this computer that QEMU's user-mode network leads into its guest, managed through QEMU's own monitor.

The human monitor's words, since QMP has none for this: `hostfwd_add`, `hostfwd_remove`, `info usernet`. They answer
with a sentence when something is wrong and with nothing otherwise (QEMU 7.2, 10.0).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostvm.errors import DriverError, PortTaken

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = "127.0.0.1"

# As in: "TCP[HOST_FORWARD]  12       127.0.0.1 43293       10.0.2.15    22     0     0"
_LINE = re.compile(r"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s", re.MULTILINE)


class Hostfwd:
    """Implements `hostvm.agent.service.Forwards`.

    :param monitor: sends one line to QEMU's human monitor and gives its answer; raises HostvmError or OSError.
    :param network: the id of the user-mode network.
    """

    def __init__(self, monitor: Callable[[str], str], network: str) -> None:
        self._monitor = monitor
        self._network = network

    def add(self, protocol: str, host_port: int, guest_port: int) -> None:
        """See `Forwards.add`. Always with an address: without one QEMU would listen on every interface."""
        said = self._monitor(f"hostfwd_add {self._network} {protocol}:{LOOPBACK}:{host_port}-:{guest_port}").strip()
        if "could not set up host forwarding rule" in said.lower():
            raise PortTaken(f"port {host_port} of this computer is taken", said, "Try again: another one is chosen")
        if said:
            raise DriverError("QEMU refuses to forward a port", said, "Look whether the machine runs: hostvm status")

    def remove(self, protocol: str, host_port: int) -> None:
        """See `Forwards.remove`."""
        self._monitor(f"hostfwd_remove {self._network} {protocol}:{LOOPBACK}:{host_port}")

    def listed(self) -> list[tuple[str, int]]:
        """See `Forwards.listed`."""
        return parse_usernet(self._monitor("info usernet"))


def parse_usernet(text: str) -> list[tuple[str, int]]:
    """Protocol and host port of each forward on 127.0.0.1 in the answer to `info usernet`."""
    lines = _LINE.findall(text.replace("\r", ""))
    return [(protocol.lower(), int(port)) for protocol, address, port in lines if address == LOOPBACK]
