"""Published ports as clients on this computer see them."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import psutil
from machines import hostvm

ECHO = (Path(__file__).parent / "echo.pl").read_text(encoding="utf-8")
SECONDS = 30


def free_ports(count, run_of=1):
    """Ports that nobody has now, each the first of `run_of`."""
    found = []
    while len(found) < count:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                for port in range(first + 1, first + run_of):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
                if all(abs(first - other) >= run_of for other in found):
                    found.append(first)
    return found


def ls(machine):
    """The rows of `hostvm port ls --json`, whatever its exit status."""
    return json.loads(hostvm("-m", machine.name, "port", "ls", "--json").out)


def row(machine, port, protocol="tcp", host="127.0.0.1"):
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return next((one for one in ls(machine) if (one["host"], one["protocol"]) == (place, protocol)), None)


def dial(port, host="127.0.0.1"):
    sock = socket.create_connection((host, port), SECONDS)
    sock.settimeout(SECONDS)
    return sock


def read_all(sock):
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def echo(port, host="127.0.0.1", data=b"hello"):
    with dial(port, host) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def ask_udp(port, host="127.0.0.1", data=b"hello", seconds=SECONDS):
    """What echo.pl answers to one datagram."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.connect((host, port))
        sock.send(data)
        return sock.recv(65535)


def own_address():
    """An address of this computer that is not loopback; None when it has none."""
    addresses = [one.address for of in psutil.net_if_addrs().values() for one in of if one.family == socket.AF_INET]
    return next((address for address in addresses if not address.startswith("127.")), None)


def quietly(act, *words):
    with contextlib.suppress(OSError):
        return act(*words)
