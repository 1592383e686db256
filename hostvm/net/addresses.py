"""Who is who in the guest's network, QEMU's user-mode network (slirp)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

DEFAULT_SUBNET = "10.0.2.0/24"
"""QEMU's own default."""

HOST_NAMES = ("host.docker.internal", "host.containers.internal", "gateway.docker.internal")
"""What guest and containers call this computer: Docker's names and Podman's."""

GUEST_AUTH_SOCK = "/run/host-services/ssh-auth.sock"
"""This computer's ssh agent in the guest: Docker Desktop's place, which compose files and dev containers name."""


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """The addresses that slirp gives out in its subnet (QEMU's documentation of `-netdev user`).

    :param gateway: this computer; connections to it arrive at 127.0.0.1 here.
    :param dns: slirp's forwarder to this computer's first nameserver.
    :param guest: the guest.
    """

    subnet: IPv4Network
    gateway: str
    dns: str
    guest: str

    @classmethod
    def of(cls, subnet: str) -> GuestNetwork:
        """The addresses in `subnet`, a /24 to /27: in others QEMU would choose them otherwise.

        :raises ValueError: it is no IPv4 network.
        """
        network = IPv4Network(subnet)
        return cls(network, *(str(network[number]) for number in (2, 3, 15)))

    def seed(self) -> bytes:
        """The same for the guest's boot scripts."""
        address = f"{self.guest}/{self.subnet.prefixlen}"
        return f"address={address}\ngateway={self.gateway}\nnameserver={self.dns}\n".encode()
