"""What makes a machine itself: its id, MAC address and port."""

from __future__ import annotations

import socket
import sys
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
    """Whether nobody listens on this port of 127.0.0.1, found out without connecting."""
    with socket.socket() as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Lets connections that were closed a moment ago be; a listener is in the way all the same.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
