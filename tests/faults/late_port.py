"""`hostvm` on a computer where the machine's ssh port is taken just after it was found free: for test_ports.py."""

from __future__ import annotations

import socket

from cli.main import entry
from hostvm.machines import boot, identity, wake

held: list[socket.socket] = []


def port_is_free(port: int) -> bool:
    found = identity.port_is_free(port)
    if found and not held:
        held.append(socket.create_server(("127.0.0.1", port)))
    return found


boot.port_is_free = wake.port_is_free = port_is_free

if __name__ == "__main__":
    entry()
