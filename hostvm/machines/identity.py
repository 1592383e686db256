"""What makes a machine itself: its id, MAC address and port."""

from __future__ import annotations

import socket
import uuid


def new_uuid() -> str:
    """A random id, for the domain and the machine-id of the guest."""
    return str(uuid.uuid4())


def mac_of(machine_uuid: str) -> str:
    """A MAC address that follows from the id, in QEMU's own range 52:54:00."""
    digits = machine_uuid.replace("-", "")
    return "52:54:00:" + ":".join(digits[start : start + 2] for start in (0, 2, 4))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether the machine's kept port can still be listened on."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
