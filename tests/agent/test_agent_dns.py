"""What a guest's query gets that is passed on: from nameservers of the test's own, on this computer's loopback."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from functools import partial

import dns.message
import dns.query
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from hostvm.net import lookup as module
from hostvm.net.dns_server import DnsServer
from hostvm.net.lookup import Lookup, read_message

TEXTS = {"short.test.": ["one"], "long.test.": [f"{number:02}" * 100 for number in range(20)]}
PLACES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Nameserver:
    """Knows TEXTS and who asked it; cuts what is too long for UDP off, as a real one does.

    :ivar silent: it takes what comes and says nothing.
    :ivar liar: it sends the answer to another query before its own.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.asked = host, []
        self.silent = self.liar = False
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, port))
        self._tcp = socket.create_server((host, port))
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):  # of a socket that only listens
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _answer(self, query: bytes, how: str) -> dns.message.Message | None:
        asked = dns.message.from_wire(query)
        name = asked.question[0].name.to_text()
        self.asked.append((how, name))
        if self.silent:
            return None
        found = dns.message.make_response(asked)
        if name in TEXTS:
            found.answer.append(dns.rrset.from_text_list(name, 60, "IN", "TXT", TEXTS[name]))
        else:
            found.set_rcode(dns.rcode.NXDOMAIN)
        return found

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._udp.recvfrom(65535)
                if not query:
                    return  # closed
                if (found := self._answer(query, "udp")) is not None:
                    if self.liar:
                        self._udp.sendto(bytes([query[0] ^ 1]) + found.to_wire()[1:], client)
                    self._udp.sendto(found.to_wire(max_size=512, prefer_truncation=True), client)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = self._tcp.accept()[0]
                with sock, sock.makefile("rb") as reader:
                    if (found := self._answer(read_message(reader.read), "tcp")) is not None:
                        wire = found.to_wire()
                        sock.sendall(struct.pack("!H", len(wire)) + wire)


@pytest.fixture
def nameservers(monkeypatch):
    """Three at one port. The last is closed: nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with contextlib.ExitStack() as stack:
        try:
            made = [stack.enter_context(contextlib.closing(Nameserver(place, port))) for place in PLACES]
        except OSError as fault:
            if fault.errno != errno.EADDRNOTAVAIL:
                raise
            pytest.skip(f"this computer's loopback has one address only: {fault}")
        made[2].close()
        monkeypatch.setattr(module, "_PORT", port)
        monkeypatch.setattr(module, "_FORWARD_SECONDS", 0.5)
        yield made


@pytest.fixture
def ask():
    """As a guest's resolver does: by UDP, and by TCP when the answer was cut off; gives it and whether it was."""
    with contextlib.ExitStack() as stack:

        def by(servers, name, kind="TXT", addresses=lambda *_: []):
            server = DnsServer(Lookup("10.0.2.2", addresses, servers), print)
            stack.callback(server.close)
            query = dns.message.make_query(name, kind)
            return dns.query.udp_with_fallback(query, "127.0.0.1", 10, server.port)

        yield by


def texts(answer) -> list[str]:
    return sorted(record.strings[0].decode() for rrset in answer.answer for record in rrset)


def in_order(*servers):
    return lambda: [server.host for server in servers]


def test_what_udp_cuts_off_is_whole_by_tcp(nameservers, ask):
    first, second, _ = nameservers
    answer, by_tcp = ask(in_order(first, second), "long.test")
    assert (texts(answer), by_tcp) == (TEXTS["long.test."], True)
    assert first.asked == [("udp", "long.test."), ("tcp", "long.test.")]
    assert not second.asked


@pytest.mark.parametrize("name", ["short.test", "long.test"])
def test_one_that_does_not_answer_is_passed_over(nameservers, ask, name):
    first, second, _ = nameservers
    first.silent = True
    assert texts(ask(in_order(first, second), name)[0]) == TEXTS[f"{name}."]
    assert {how for how, _ in first.asked} == {how for how, _ in second.asked}, "each was asked by UDP and by TCP"


def test_where_nobody_listens_is_passed_over(nameservers, ask):
    first, _, closed = nameservers
    assert texts(ask(in_order(closed, first), "long.test")[0]) == TEXTS["long.test."]


def test_the_answer_to_another_query_does_not_count(nameservers, ask):
    nameservers[0].liar = True
    assert texts(ask(in_order(nameservers[0]), "short.test")[0]) == ["one"]


def test_a_name_that_there_is_not_is_the_nameservers_own_answer(nameservers, ask):
    first, second, _ = nameservers
    assert ask(in_order(first, second), "nowhere.test")[0].rcode() == dns.rcode.NXDOMAIN
    assert not second.asked


@pytest.mark.parametrize("kind", ["A", "AAAA"])
@pytest.mark.parametrize("name", ["1.2.3.4", "10", "0x7f.1", "127.0.0.1", "::1"])
def test_an_address_is_no_name(nameservers, ask, name, kind):
    """The system's resolver takes each for one: 10 for 0.0.0.10, 0x7f.1 for 127.0.0.1 and so for this computer."""
    first, _, _ = nameservers
    answer, _ = ask(in_order(first), name, kind, module.system_addresses)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NXDOMAIN, [])
    assert first.asked == [("udp", f"{name}.")]


def test_when_none_answers_that_is_no_denial(nameservers, ask):
    first, _, closed = nameservers
    first.silent = True
    assert ask(in_order(first, closed), "short.test")[0].rcode() == dns.rcode.SERVFAIL


def test_a_changed_resolv_conf_counts(nameservers, ask, tmp_path, monkeypatch):
    first, second, _ = nameservers
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(module.dns.resolver, "Resolver", partial(dns.resolver.Resolver, str(file)))
    monkeypatch.setattr(module, "_SERVERS_KEPT", 0.0)
    servers = module._SystemServers()
    assert ask(servers, "short.test")[0].rcode() == dns.rcode.SERVFAIL, "there is none yet"
    file.write_text(f"nameserver {first.host}\n")
    assert texts(ask(servers, "short.test")[0]) == ["one"]
    file.write_text(f"search test\nnameserver {second.host}\n")
    assert texts(ask(servers, "short.test")[0]) == ["one"]
    assert first.asked == second.asked == [("udp", "short.test.")]
    file.write_text("# no network\n")
    assert servers() == []
