from __future__ import annotations

import pytest

from hostvm.drivers.hostfwd import Hostfwd, parse_usernet
from hostvm.errors import DriverError, PortTaken

# QEMU 7.2's answer.
USERNET = (
    "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[ESTABLISHED]   26       127.0.0.1 43293       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  12       127.0.0.1 43293       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  13               * 80          10.0.2.15    80     0     0\r\n"
    "  UDP[HOST_FORWARD]  29       127.0.0.1 18080       10.0.2.15 18080     0     0\r\n"
    "  ICMP[2 sec]        29       10.0.2.15 -            10.0.2.2     -     0     0\r\n"
)


class Monitor:
    def __init__(self, answer=""):
        self.answer, self.lines = answer, []

    def __call__(self, line):
        self.lines.append(line)
        return self.answer


def test_words():
    monitor = Monitor()
    forwards = Hostfwd(monitor, "net0")
    forwards.add("udp", 5353, 53)
    forwards.remove("tcp", 80)
    assert monitor.lines == ["hostfwd_add net0 udp:127.0.0.1:5353-:53", "hostfwd_remove net0 tcp:127.0.0.1:80"]


def test_a_taken_port_is_told_apart():
    with pytest.raises(PortTaken):
        Hostfwd(Monitor("Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'\r\n"), "net0").add("tcp", 80, 80)
    with pytest.raises(DriverError, match="refuses") as caught:
        Hostfwd(Monitor("unrecognized netdev id 'net9'\r\n"), "net9").add("tcp", 80, 80)
    assert not isinstance(caught.value, PortTaken)


def test_what_is_listed():
    monitor = Monitor(USERNET)
    assert Hostfwd(monitor, "net0").listed() == [("tcp", 43293), ("udp", 18080)]
    assert monitor.lines == ["info usernet"]
    assert parse_usernet("") == []
