"""What a guest's queries are answered with."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.rcode
import pytest

from hostvm.net.lookup import TTL, Lookup

GATEWAY = "10.0.2.2"
KNOWN = {
    ("web.corp.example", 4): ["192.0.2.10", "192.0.2.11"],
    ("dual.example", 4): ["192.0.2.20"],
    ("dual.example", 6): ["2001:db8::20"],
    ("my.test", 4): ["127.0.0.1", "127.0.1.1"],
    ("my.test", 6): ["::1"],
    ("many.example", 4): [f"192.0.2.{number}" for number in range(1, 201)],
}


def addresses(name: str, family: int) -> list[str]:
    return KNOWN.get((name, 4 if family == socket.AF_INET else 6), [])


@pytest.fixture
def lookup() -> Lookup:
    return Lookup(GATEWAY, addresses, list)


def ask(lookup: Lookup, name: str, kind: str = "A", *, stream: bool = False, **options) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    answer = lookup.answer(query.to_wire(), stream=stream)
    assert answer is not None
    response = dns.message.from_wire(answer)
    assert response.id == query.id
    assert response.flags & dns.flags.QR
    return response


def found(response: dns.message.Message) -> list[str]:
    return [str(record) for rrset in response.answer for record in rrset]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("host.docker.internal", "A", [GATEWAY]),
        ("Host.Docker.Internal", "A", [GATEWAY]),
        ("host.containers.internal", "A", [GATEWAY]),
        ("gateway.docker.internal", "A", [GATEWAY]),
        ("host.docker.internal", "AAAA", []),
        # a browser asks this first, and a cache would take "no such name" for the address, too
        ("host.docker.internal", "HTTPS", []),
        ("web.corp.example", "A", ["192.0.2.10", "192.0.2.11"]),
        ("dual.example", "AAAA", ["2001:db8::20"]),
        # musl gives a name up when one family is "no such name"
        ("web.corp.example", "AAAA", []),
        # the hosts file's loopback is this computer, not the guest
        ("my.test", "A", [GATEWAY]),
        ("my.test", "AAAA", []),
    ],
)
def test_answers(lookup, name, kind, expected):
    response = ask(lookup, name, kind)
    assert response.rcode() == dns.rcode.NOERROR
    assert found(response) == expected
    assert all(rrset.ttl == TTL for rrset in response.answer)


def test_unknown_name_without_a_nameserver_is_a_failure_not_a_denial(lookup):
    assert ask(lookup, "nowhere.example").rcode() == dns.rcode.SERVFAIL


def test_long_answer_over_udp_is_truncated_and_whole_over_tcp(lookup):
    short = ask(lookup, "many.example")
    assert short.flags & dns.flags.TC
    assert len(found(short)) < 200
    assert len(found(ask(lookup, "many.example", stream=True))) == 200
    assert len(found(ask(lookup, "many.example", use_edns=0, payload=4096))) == 200


@pytest.mark.parametrize("data", [b"", b"\0", b"nonsense", b"\xff" * 12, bytes(range(200))])
def test_what_is_no_query_gets_no_answer(lookup, data):
    assert lookup.answer(data, stream=False) is None


def test_an_answer_is_not_answered(lookup):
    response = dns.message.make_response(dns.message.make_query("dual.example", "A"))
    assert lookup.answer(response.to_wire(), stream=False) is None
