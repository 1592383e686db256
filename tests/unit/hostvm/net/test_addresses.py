"""Who is who in the guest's network, and the rules that lead its DNS here."""

from __future__ import annotations

import pytest

from hostvm.net.addresses import GuestNetwork
from hostvm.net.dns_service import redirect_script


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("10.0.2.0/24", ("10.0.2.2", "10.0.2.3", "10.0.2.15")),
        ("192.168.127.32/27", ("192.168.127.34", "192.168.127.35", "192.168.127.47")),
    ],
)
def test_addresses(subnet, expected):
    network = GuestNetwork.of(subnet)
    assert (network.gateway, network.dns, network.guest) == expected


def test_redirect_script_takes_back_what_it_set():
    script = redirect_script(GuestNetwork.of("10.0.2.0/24"), 5353)
    assert script.splitlines()[0] == "trap '' HUP TERM INT"
    assert script.count("10.0.2.3 -p") == 4
    assert script.index("rules -I") < script.index("cat > /dev/null") < script.index("rules -D")
    for chain in ("OUTPUT", "PREROUTING"):
        for protocol in ("udp", "tcp"):
            assert f"{chain} -d 10.0.2.3 -p {protocol} --dport 53 -j DNAT --to-destination 10.0.2.2:5353" in script


def test_the_boot_scripts_are_told_the_same():
    assert GuestNetwork.of("192.168.127.0/24").seed() == (
        b"address=192.168.127.15/24\ngateway=192.168.127.2\nnameserver=192.168.127.3\n"
    )
