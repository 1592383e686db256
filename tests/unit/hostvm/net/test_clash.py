"""Which networks of this computer a guest would hide, and what it takes instead."""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Network
from types import SimpleNamespace

import psutil
import pytest

from hostvm.net import clash
from hostvm.net.clash import choose_subnet, engine_pools, host_networks, parse_routes


def networks(*texts: str) -> list[IPv4Network]:
    return [IPv4Network(text) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "host", "subnet", "says"),
    [
        ("auto", [], "10.0.2.0/24", ""),
        ("auto", ["192.168.1.0/24", "0.0.0.0/1", "128.0.0.0/1"], "10.0.2.0/24", ""),
        ("auto", ["10.0.0.0/16"], "192.168.127.0/24", "192.168.127.0/24: this computer has 10.0.0.0/16"),
        ("auto", ["10.0.0.0/8"], "192.168.127.0/24", "this computer has 10.0.0.0/8"),
        ("auto", ["10.0.2.15/32", "192.168.127.4/30"], "10.127.2.0/24", "this computer has 10.0.2.15/32"),
        ("auto", ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"], "10.0.2.0/24", "choose one"),
        ("10.9.0.0/24", ["10.0.2.0/24"], "10.9.0.0/24", ""),
        ("10.9.0.0/24", ["10.9.0.0/16"], "10.9.0.0/24", "network.subnet 10.9.0.0/24 hides"),
    ],
)
def test_subnet(wanted, host, subnet, says):
    chosen, note = choose_subnet(wanted, networks(*host))
    assert chosen == subnet
    assert (says in note) if says else note == ""


def test_engine_keeps_its_own_pools_where_nothing_is_hidden():
    assert engine_pools(networks("10.0.2.0/24", "192.0.2.0/24")) is None


def test_engine_leaves_out_pools_that_would_hide_something():
    pools = engine_pools(networks("172.17.0.0/16", "172.20.3.0/24", "192.168.1.0/24"))
    bases = [pool["base"] for pool in pools]
    assert bases[0] == "172.18.0.0/16"
    assert len(bases) == 13
    assert not {"172.17.0.0/16", "172.20.0.0/16", "192.168.0.0/16"} & set(bases)


def test_engine_has_a_pool_even_where_all_are_taken():
    assert engine_pools(networks("172.16.0.0/12", "192.168.0.0/16")) == [{"base": "10.200.0.0/16", "size": 24}]


@pytest.mark.skipif(sys.byteorder != "little", reason="the table below is a little-endian machine's")
def test_routes_of_linux(tmp_path):
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "tun0\t0000FF0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "tun0\t0A0A0A0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
    )
    assert parse_routes(table) == networks("192.0.2.0/24", "10.255.0.0/16", "10.10.10.10/32")
    assert parse_routes(tmp_path / "none") == []


def address(text: str, mask: str | None, family: socket.AddressFamily = socket.AF_INET) -> SimpleNamespace:
    return SimpleNamespace(family=family, address=text, netmask=mask)


@pytest.mark.parametrize(("platform", "routes"), [("linux", ["172.30.0.0/16"]), ("darwin", []), ("win32", [])])
def test_networks_of_a_computer(monkeypatch, platform, routes):
    """Of all its interfaces, each once; on Linux those behind a route, too."""
    interfaces = {
        "lo": [address("127.0.0.1", "255.0.0.0"), address("::1", "ffff::", socket.AF_INET6)],
        "office": [address("10.0.2.9", "255.255.255.0"), address("10.0.2.10", "255.255.255.0")],
        "tunnel": [address("10.8.0.6", "255.255.255.255"), address("10.9.0.1", None)],
        "nothing": [address("169.254.7.7", "255.255.0.0")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    monkeypatch.setattr(clash, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(clash, "parse_routes", lambda _: networks("10.0.2.0/24", "172.30.0.0/16"))
    assert host_networks() == networks("10.0.2.0/24", "10.8.0.6/32", *routes)
