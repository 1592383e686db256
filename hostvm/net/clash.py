"""Networks of this computer that a guest's own would hide, and how to step aside."""

from __future__ import annotations

import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.net.addresses import DEFAULT_SUBNET
from hostvm.net.settings import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CANDIDATES = (DEFAULT_SUBNET, "192.168.127.0/24", "10.127.2.0/24", "172.31.250.0/24", "192.168.250.0/24")
"""Seldom used by home routers, offices and VPNs; the first is QEMU's own default."""

_ENGINE_POOLS = (
    *((IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPv4Network("192.168.0.0/16"), 20),
)
"""What Docker takes networks from, and their size (moby, daemon/libnetwork/ipamutils)."""

_FALLBACK_POOL = (IPv4Network("10.200.0.0/16"), 24)
_WIDEST = 8
"""A network wider than this is a default route in disguise (VPNs set 0.0.0.0/1 and 128.0.0.0/1)."""


def choose_subnet(wanted: str, host: Sequence[IPv4Network]) -> tuple[str, str]:
    """The guest's subnet, and one line for the user when something is to be said about it.

    :param wanted: a network, or `auto`: the first candidate that hides nothing.
    :param host: networks that this computer is in or has routes to.
    """
    if wanted != AUTO:
        clash = clashes(IPv4Network(wanted), host)
        if not clash:
            return wanted, ""
        return wanted, f"network.subnet {wanted} hides this computer's {_text(clash)} from guest and containers"
    hidden = _text(clashes(IPv4Network(DEFAULT_SUBNET), host))
    for candidate in _CANDIDATES:
        if not clashes(IPv4Network(candidate), host):
            if candidate == DEFAULT_SUBNET:
                return candidate, ""
            return candidate, f"the guest's network is {candidate}: this computer has {hidden}"
    return DEFAULT_SUBNET, (
        f"the guest's network {DEFAULT_SUBNET} hides this computer's {hidden}, and others would hide more; "
        "choose one: network: {subnet: NETWORK} in machine.yaml"
    )


def engine_pools(taken: Sequence[IPv4Network]) -> list[dict[str, object]] | None:
    """Address pools for the engine that hide none of `taken`; None when its own defaults do not."""
    free = free_pools(taken)
    return None if free == list(_ENGINE_POOLS) else [{"base": str(pool), "size": size} for pool, size in free]


def free_pools(taken: Sequence[IPv4Network]) -> list[tuple[IPv4Network, int]]:
    """Networks for containers that hide none of `taken`, each with the prefix length of the pieces it is cut into."""
    return [(pool, size) for pool, size in _ENGINE_POOLS if not clashes(pool, taken)] or [_FALLBACK_POOL]


def clashes(network: IPv4Network, others: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Those of `others` that overlap with it."""
    return [other for other in others if other.prefixlen >= _WIDEST and network.overlaps(other)]


def host_networks() -> list[IPv4Network]:
    """Networks of this computer's interfaces and, on Linux, of its routes: a VPN's are often routes only."""
    import psutil

    found: dict[IPv4Network, None] = {}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family.name == "AF_INET" and address.netmask:
                found[IPv4Network(f"{address.address}/{address.netmask}", strict=False)] = None
    if sys.platform == "linux":
        found.update(dict.fromkeys(parse_routes(Path("/proc/net/route"))))
    return [network for network in found if not network.is_loopback and not network.is_link_local]


def parse_routes(path: Path) -> list[IPv4Network]:
    """Destinations of Linux's routing table (proc(5): hexadecimal, in the machine's byte order)."""
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        destination, mask = (int(fields[at], 16).to_bytes(4, sys.byteorder) for at in (1, 7))
        network = IPv4Network((destination, int.from_bytes(mask, "big").bit_count()), strict=False)
        if network.prefixlen:
            found.append(network)
    return found


def _text(networks: Sequence[IPv4Network]) -> str:
    return ", ".join(str(network) for network in networks)
