"""Answers DNS queries as programs of this computer would find them: its resolver, its VPN's, its hosts file."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from hostvm.net.addresses import HOST_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TTL = 5
"""Seconds that an answer may be kept. The system does not tell the real ones, and a VPN may come up any moment."""

_PORT = 53
_PLAIN_UDP = 512
_FORWARD_SECONDS = 2.5
_SERVERS_KEPT = 2.0
_FAMILIES = {dns.rdatatype.A: socket.AF_INET, dns.rdatatype.AAAA: socket.AF_INET6}

_OTHER = {socket.AF_INET: socket.AF_INET6, socket.AF_INET6: socket.AF_INET}


def system_addresses(name: str, family: int) -> list[str]:
    """What this computer's own resolver says; empty when it knows nothing.

    glibc, macOS and Windows all notice changes of their settings by themselves
    (https://sourceware.org/glibc/wiki/Release/2.26: resolv.conf is reloaded).
    """
    if _is_number(name):
        return []
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _is_number(name: str) -> bool:
    """Whether the system would read it as an address (`1.2.3.4`, `10`, `0x7f.1`), which in DNS no name is."""
    try:
        return bool(socket.getaddrinfo(name, None, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return False


class Lookup:
    """Turns a query's bytes into an answer's. Any thread may call it.

    Addresses come from the system's resolver. Other types, and names that it does not know, are asked of the
    system's nameservers with the query as it came, so that their answer is theirs (NXDOMAIN, DNSSEC and all).

    :param gateway: the address under which the guest reaches this computer.
    """

    def __init__(
        self,
        gateway: str,
        addresses: Callable[[str, int], list[str]] = system_addresses,
        servers: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._gateway = gateway
        self._addresses = addresses
        self._servers = servers or _SystemServers()

    def answer(self, query: bytes, *, stream: bool) -> bytes | None:
        """The answer; None to something that is no query.

        :param stream: it came over TCP, where an answer may have any length.
        """
        try:
            message = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return None
        if message.flags & dns.flags.QR:
            return None
        found = self._local(message)
        if found is None:
            forwarded = self._forward(query, stream=stream)
            if forwarded is not None:
                return forwarded
            found = dns.message.make_response(message)
            found.set_rcode(dns.rcode.SERVFAIL)
        return _wire(found, message, stream=stream)

    def _local(self, message: dns.message.Message) -> dns.message.Message | None:
        if len(message.question) != 1 or message.opcode() != 0:
            return None
        question = message.question[0]
        family = _FAMILIES.get(question.rdtype)
        name = question.name.to_text(omit_final_dot=True).lower()
        if question.rdclass != dns.rdataclass.IN or (family is None and name not in HOST_NAMES):
            return None
        if family is None or name in HOST_NAMES:
            # Of other types, too: whoever caches takes "no such name" for all that there is of it (RFC 8020).
            found, known = [self._gateway] if family == socket.AF_INET else [], True
        else:
            found = self._seen_from_guest(self._addresses(name, family)) if name else []
            # "No such name" for one family makes musl's resolver give up a name that the other family has.
            known = bool(found or (name and self._addresses(name, _OTHER[family])))
        if not known:
            return None
        response = dns.message.make_response(message)
        response.flags |= dns.flags.RA
        if found:
            response.answer.append(
                dns.rrset.from_text_list(question.name, TTL, dns.rdataclass.IN, question.rdtype, found)
            )
        return response

    def _seen_from_guest(self, addresses: list[str]) -> list[str]:
        """A loopback address, in a hosts file for example, means this computer and not the guest itself."""
        found = []
        for text in addresses:
            address = ipaddress.ip_address(text)
            if not address.is_loopback:
                found.append(text)
            elif address.version == 4:  # noqa: PLR2004 - slirp leads IPv4 to this computer's loopback
                found.append(self._gateway)
        return list(dict.fromkeys(found))

    def _forward(self, query: bytes, *, stream: bool) -> bytes | None:
        for server in self._servers():
            with contextlib.suppress(OSError):
                return _ask_tcp(server, query) if stream else _ask_udp(server, query)
        return None


class _SystemServers:
    """The system's nameservers, read anew every two seconds at most."""

    def __init__(self) -> None:
        self._read = 0.0
        self._found: list[str] = []

    def __call__(self) -> list[str]:
        now = time.monotonic()
        if not self._read or now - self._read > _SERVERS_KEPT:
            from dns.resolver import Resolver  # 2 MB of an agent whose guest asks for what this computer knows

            self._read = now
            try:
                self._found = [str(server) for server in Resolver().nameservers]
            except (dns.exception.DNSException, OSError):
                self._found = []  # none configured: offline
        return self._found


def _wire(response: dns.message.Message, query: dns.message.Message, *, stream: bool) -> bytes:
    most = 65535 if stream else max(query.payload, _PLAIN_UDP)
    return response.to_wire(max_size=most, prefer_truncation=True, want_shuffle=False)


def _ask_udp(server: str, query: bytes) -> bytes:
    family, kind, _, _, address = socket.getaddrinfo(server, _PORT, type=socket.SOCK_DGRAM)[0]
    deadline = time.monotonic() + _FORWARD_SECONDS
    with socket.socket(family, kind) as sock:
        sock.connect(address)  # so that a port where nobody listens is an error at once
        sock.send(query)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            answer = sock.recv(65535)
            if answer[:2] == query[:2]:
                return answer
    raise TimeoutError(server)


def _ask_tcp(server: str, query: bytes) -> bytes:
    with socket.create_connection((server, _PORT), _FORWARD_SECONDS) as sock:
        sock.sendall(struct.pack("!H", len(query)) + query)
        with sock.makefile("rb") as reader:
            return read_message(reader.read)


def read_message(read: Callable[[int], bytes]) -> bytes:
    """One message of DNS over TCP (RFC 1035, 4.2.2): two bytes of length before it.

    :raises ConnectionError: the stream ended before.
    """
    head = read(2)
    size = struct.unpack("!H", head)[0] if len(head) == 2 else 0  # noqa: PLR2004
    message = read(size) if size else b""
    if not size or len(message) < size:
        raise ConnectionError("the stream ended")
    return message
