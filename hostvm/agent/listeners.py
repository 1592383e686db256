"""Listening sockets of published ports: exactly the address that was asked for, and errors a person can act on."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys

_BACKLOG = 1024
_LOW = 1024


def listen(protocol: str, host: str, port: int) -> socket.socket:
    """A non-blocking listener, or a bound UDP socket, on (host, port) and nothing else.

    :raises OSError: its text says what to do about it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        if sys.platform == "win32":
            # Windows' SO_REUSEADDR would let two programs share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((bound_address(host, port), port))
        if protocol == "tcp":
            sock.listen(_BACKLOG)
        sock.settimeout(0.0)
    except OSError as error:
        sock.close()
        raise explain(error, protocol, host, port) from error
    return sock


def bound_address(host: str, port: int, platform: str = sys.platform) -> str:
    """What is given to bind(): macOS lets a user have a low port only on all addresses.

    Whoever accepts there must ask `is_for`, and whoever receives datagrams `is_from`, so that loopback stays loopback.
    """
    if platform == "darwin" and port < _LOW and ipaddress.ip_address(host).is_loopback:
        return "::" if ":" in host else "0.0.0.0"  # noqa: S104 - see `is_for`
    return host


def is_for(host: str, sock: socket.socket) -> bool:
    """Whether a connection that was accepted came to `host`."""
    asked = ipaddress.ip_address(host)
    return asked.is_unspecified or ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]) == asked


def is_from(host: str, bound: str, sender: str) -> bool:
    """Whether a datagram for `host` may have been sent by `sender`.

    A socket does not tell the address that one came to. Where all are bound in the place of loopback, only what has
    a loopback address itself is taken: systems let no network send such.

    :param bound: the address of the socket that received it.
    """
    if not ipaddress.ip_address(host).is_loopback or not ipaddress.ip_address(bound).is_unspecified:
        return True
    return ipaddress.ip_address(sender.partition("%")[0]).is_loopback


def explain(error: OSError, protocol: str, host: str, port: int, platform: str = sys.platform) -> OSError:
    """The same error with a text for people."""
    if error.errno == errno.EADDRINUSE:
        text = f"another program of this computer has port {port}/{protocol}"
    elif error.errno == errno.EADDRNOTAVAIL:
        text = f"this computer has no address {host}"
    elif error.errno in (errno.EACCES, errno.EPERM) and port < _LOW:
        text = f"ports below {_LOW} need privileges here"
        if platform == "linux":
            text += f"; allow them with: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}"
    else:
        text = error.strerror or str(error)
    return type(error)(error.errno, text)
