"""Ways of UDP to a container that publishes on one address: ssh carries none, and the hypervisor's network reaches only
the guest's own address.

So a port of the guest, of those that nobody takes by himself, is led by its kernel to the container's own address. The
hypervisor leads there like anywhere.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.docker.published import LOOPBACK4

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hostvm.agent.service import PortForward

_PORTS = range(61000, 65536)
"""Above the guest's net.ipv4.ip_local_port_range."""

_CHAIN = "HOSTVM-UDP"

# The rules by standard input; what is declared there is emptied. The engine may have put its own before ours meanwhile,
# and drops what it did not publish on all addresses.
SCRIPT = f"""\
iptables-restore --noflush || exit
iptables -t nat -C PREROUTING -j {_CHAIN} 2>/dev/null || iptables -t nat -I PREROUTING -j {_CHAIN} || exit
iptables -D FORWARD -j {_CHAIN} 2>/dev/null
exec iptables -I FORWARD -j {_CHAIN}
"""


class Detours:
    """Which port of the guest leads to which container's. Not for several threads at once."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, int], int] = {}

    def lead(self, wanted: Iterable[PortForward]) -> dict[PortForward, PortForward]:
        """What is to be opened in place of each forward; a way that is kept keeps its port."""
        wanted = list(wanted)
        needed = {_target(one) for one in wanted if _needs_one(one)}
        self._ports = {target: port for target, port in self._ports.items() if target in needed}
        taken = {one.guest_port for one in wanted if one.protocol == "udp" and one.outside} | {*self._ports.values()}
        free = (port for port in _PORTS if port not in taken)
        for target in sorted(needed - set(self._ports)):
            if (port := next(free, None)) is not None:
                self._ports[target] = port
        return {one: self._led(one) for one in wanted}

    def __bool__(self) -> bool:
        """Whether any is needed."""
        return bool(self._ports)

    def rules(self) -> str:
        """For `SCRIPT`."""
        ways = sorted((port, target) for target, port in self._ports.items())
        rule = f"-A {_CHAIN} -p udp"
        there = [
            f"{rule} -m addrtype --dst-type LOCAL -m udp --dport {port} -j DNAT --to-destination {host}:{inner}"
            for port, (host, inner) in ways
        ]
        through = [f"{rule} -m conntrack --ctstate DNAT --ctorigdstport {port} -j ACCEPT" for port, _ in ways]
        declared = f":{_CHAIN} - [0:0]"
        return "\n".join(["*nat", declared, *there, "COMMIT", "*filter", declared, *through, "COMMIT", ""])

    def target(self, forward: PortForward) -> tuple[str, int]:
        """Where it ends, of one that `lead` has given."""
        led = {port: target for target, port in self._ports.items()}
        if forward.protocol == "udp" and forward.guest_port in led:
            return led[forward.guest_port]
        return _target(forward)

    def _led(self, forward: PortForward) -> PortForward:
        port = self._ports.get(_target(forward)) if _needs_one(forward) else None
        return forward if port is None else replace(forward, guest_host=LOOPBACK4, guest_port=port, outside=True)


def _needs_one(forward: PortForward) -> bool:
    if forward.protocol != "udp" or forward.outside:
        return False
    address = ipaddress.ip_address(forward.guest_host)
    return address.version == 4 and not address.is_loopback  # noqa: PLR2004 - the guest has no IPv6 outside


def _target(forward: PortForward) -> tuple[str, int]:
    return forward.guest_host, forward.guest_port
