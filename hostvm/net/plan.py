"""What a start decides about the guest's network, proxies and trust, from the settings and this computer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.net.addresses import DEFAULT_SUBNET, GuestNetwork
from hostvm.net.certificates import wanted_certificates
from hostvm.net.clash import choose_subnet, host_networks
from hostvm.net.proxies import guest_proxies
from hostvm.net.settings import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network

    from hostvm.spec import MachineSpec


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """One boot's decisions.

    :param taken: networks that containers' own must not hide.
    :param proxies: variables for the guest.
    :param certificates: PEM, to be trusted beside the image's.
    :param notes: lines for the user.
    """

    network: GuestNetwork
    taken: tuple[IPv4Network, ...]
    proxies: Mapping[str, str]
    certificates: bytes
    notes: tuple[str, ...] = ()

    def seed(self) -> dict[str, bytes]:
        """Files of the guest's seed; what is as the image has it is left out."""
        files = {}
        if str(self.network.subnet) != DEFAULT_SUBNET:
            files["network"] = self.network.seed()
        if self.proxies:
            files["env"] = "".join(f"{name}={value}\n" for name, value in self.proxies.items()).encode()
        if self.certificates:
            files["ca.pem"] = self.certificates
        return files


def plan_network(spec: MachineSpec, environ: Mapping[str, str]) -> NetworkPlan:
    """Look at this computer and decide.

    :raises SpecError: a proxy or a certificate file that cannot be used.
    """
    host = host_networks()
    subnet, note = choose_subnet(spec.network["subnet"], host)
    network = GuestNetwork.of(subnet)
    return NetworkPlan(
        network=network,
        taken=(*host, network.subnet),
        proxies={} if spec.proxy == NONE else guest_proxies(environ, network),
        certificates=wanted_certificates(spec.ca),
        notes=(note,) if note else (),
    )
