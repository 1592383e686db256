"""Ports of the guest that its kernel leads to containers: which, and by what rules."""

from __future__ import annotations

from hostvm.agent.service import PortForward
from runtime.docker.detours import Detours

LOCAL = "-p udp -m addrtype --dst-type LOCAL -m udp"


def udp(guest_host, guest_port, *, port=5353, outside=False):
    return PortForward("udp", "127.0.0.1", port, guest_host, guest_port, outside)


def test_only_udp_to_a_containers_ipv4_address_is_led_elsewhere():
    others = [
        PortForward("tcp", "127.0.0.1", 80, "172.17.0.2", 80, outside=False),
        udp("127.0.0.1", 5353, outside=True),
        udp("127.0.0.1", 5354, port=5354),
        udp("::1", 5355, port=5355),
        udp("fd01::2", 53),
    ]
    detours = Detours()
    assert detours.lead(others) == {one: one for one in others}
    assert not detours
    assert "DNAT" not in detours.rules()


def test_rules():
    detours = Detours()
    detours.lead([udp("172.17.0.3", 53), udp("172.17.0.2", 7000)])
    assert detours.rules() == (
        "*nat\n"
        ":HOSTVM-UDP - [0:0]\n"
        f"-A HOSTVM-UDP {LOCAL} --dport 61000 -j DNAT --to-destination 172.17.0.2:7000\n"
        f"-A HOSTVM-UDP {LOCAL} --dport 61001 -j DNAT --to-destination 172.17.0.3:53\n"
        "COMMIT\n"
        "*filter\n"
        ":HOSTVM-UDP - [0:0]\n"
        "-A HOSTVM-UDP -p udp -m conntrack --ctstate DNAT --ctorigdstport 61000 -j ACCEPT\n"
        "-A HOSTVM-UDP -p udp -m conntrack --ctstate DNAT --ctorigdstport 61001 -j ACCEPT\n"
        "COMMIT\n"
    )


def test_a_way_keeps_its_port_and_takes_no_other_s():
    first, second = udp("172.17.0.2", 53), udp("172.17.0.3", 53, port=5354)
    plain = udp("127.0.0.1", 61000, port=61000, outside=True)
    detours = Detours()
    led = detours.lead([second, plain])
    assert led[second] == udp("127.0.0.1", 61001, port=5354, outside=True)
    assert detours.target(led[second]) == ("172.17.0.3", 53)
    assert detours.target(plain) == ("127.0.0.1", 61000)
    led = detours.lead([first, second])
    assert led[second].guest_port == 61001
    assert led[first].guest_port == 61000


def test_more_than_there_are_ports_for_stay_as_they_are():
    wanted = [udp(f"172.17.{number // 250}.{number % 250}", 53, port=number) for number in range(5000)]
    led = Detours().lead(wanted)
    assert sum(one.outside for one in led.values()) == 4536
