from __future__ import annotations

import errno

import pytest

from hostvm.agent.listeners import bound_address, explain, is_for, is_from

LOW = "ports below 1024 need privileges here"


class Accepted:
    def __init__(self, *name):
        self.name = name

    def getsockname(self):
        return self.name


@pytest.mark.parametrize(
    ("host", "port", "platform", "bound"),
    [
        ("127.0.0.1", 80, "darwin", "0.0.0.0"),
        ("::1", 80, "darwin", "::"),
        ("127.0.0.1", 8080, "darwin", "127.0.0.1"),
        ("192.0.2.1", 80, "darwin", "192.0.2.1"),
        ("127.0.0.1", 80, "linux", "127.0.0.1"),
    ],
)
def test_low_ports_of_loopback_on_macos(host, port, platform, bound):
    assert bound_address(host, port, platform) == bound


@pytest.mark.parametrize(
    ("host", "came_to", "wanted"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("0.0.0.0", "192.0.2.1", True),
        ("::1", "fe80::1%en0", False),
        ("::", "fe80::1%en0", True),
    ],
)
def test_only_connections_to_the_address_that_was_asked_for(host, came_to, wanted):
    assert is_for(host, Accepted(came_to, 80)) is wanted


@pytest.mark.parametrize(
    ("host", "bound", "sender", "wanted"),
    [
        ("127.0.0.1", "0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", "192.0.2.1", False),
        ("::1", "::", "::1", True),
        ("::1", "::", "fe80::1%en0", False),
        ("0.0.0.0", "0.0.0.0", "192.0.2.1", True),
        ("127.0.0.1", "127.0.0.1", "192.0.2.1", True),  # a program here may send so
        ("192.0.2.1", "192.0.2.1", "192.0.2.2", True),
    ],
)
def test_datagrams_to_loopback_are_loopback_s_where_all_is_bound(host, bound, sender, wanted):
    assert is_from(host, bound, sender) is wanted


@pytest.mark.parametrize(
    ("code", "port", "platform", "text"),
    [
        (errno.EADDRINUSE, 8080, "linux", "another program of this computer has port 8080/tcp"),
        (errno.EADDRNOTAVAIL, 8080, "linux", "this computer has no address 127.0.0.1"),
        (
            errno.EACCES,
            80,
            "linux",
            f"{LOW}; allow them with: sudo sysctl net.ipv4.ip_unprivileged_port_start=80",
        ),
        (errno.EACCES, 80, "darwin", LOW),
        (errno.EACCES, 8080, "win32", "as the system says"),
    ],
)
def test_errors_say_what_to_do(code, port, platform, text):
    told = explain(OSError(code, "as the system says"), "tcp", "127.0.0.1", port, platform)
    assert (told.errno, told.strerror) == (code, text)
