"""A UDP socket bound to all addresses: which one of them a datagram came to, and sending from just that one.

A client takes an answer only from the address that it wrote to (a connected socket, any resolver), and a computer with
several addresses answers from whichever routing prefers unless it is told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
from typing import Any, TypeAlias

Here: TypeAlias = bytes
"""One of this computer's addresses, as the system is told to send from it; empty: not known."""

# Not in Python's socket module: Linux's include/uapi/linux/in.h, macOS' netinet/in.h.
_IP_PKTINFO = 8 if sys.platform == "linux" else 26
_PKTINFO = struct.Struct("@I4s4s")  # in_pktinfo: interface, local address, destination in the header
_PKTINFO6 = struct.Struct("@16sI")  # in6_pktinfo: address, interface


class Datagrams:
    """What is received and sent by one bound socket.

    Only where all addresses are bound there is anything to tell. Windows has no recvmsg() in Python: there it is not
    known, and routing chooses.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._told = False
        if sys.platform != "win32" and ipaddress.ip_address(sock.getsockname()[0]).is_unspecified:
            six = sock.family == socket.AF_INET6
            level, wanted = (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if six else (socket.IPPROTO_IP, _IP_PKTINFO)
            with contextlib.suppress(OSError):
                sock.setsockopt(level, wanted, 1)
                self._told = True

    def receive(self, size: int) -> tuple[bytes, Any, Here]:
        """A datagram, its sender, and where it came to.

        :raises OSError: as `socket.recvfrom`.
        """
        if sys.platform == "win32" or not self._told:
            return (*self._socket.recvfrom(size), b"")
        data, told, _, sender = self._socket.recvmsg(size, socket.CMSG_SPACE(_PKTINFO6.size))
        return data, sender, next(filter(None, (_here(*one) for one in told)), b"")

    def send(self, data: bytes, to: Any, here: Here) -> None:
        """Send from the address that `receive` gave, or whichever routing chooses where that cannot be.

        :raises OSError: as `socket.sendto`.
        """
        if sys.platform != "win32" and here:
            six = self._socket.family == socket.AF_INET6
            level, kind = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) if six else (socket.IPPROTO_IP, _IP_PKTINFO)
            try:
                self._socket.sendmsg([data], [(level, kind, here)], 0, to)
            except BlockingIOError:
                raise
            except OSError:  # the address has gone, or was a broadcast's
                pass
            else:
                return
        self._socket.sendto(data, to)


def _here(level: int, kind: int, told: bytes) -> Here:
    """Ancillary data to send with, made from what was received."""
    if sys.platform != "win32" and (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        address, interface = _PKTINFO6.unpack(told)
        place = ipaddress.IPv6Address(address)
        # Only a link-local address needs the interface; with others it would overrule routing.
        return b"" if place.is_multicast else _PKTINFO6.pack(address, interface if place.is_link_local else 0)
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        _, local, header = _PKTINFO.unpack(told)
        # Linux gives the address to answer from, also where the header has a broadcast's; macOS only the header's.
        return _PKTINFO.pack(0, local if sys.platform == "linux" else header, bytes(4))
    return b""
