from __future__ import annotations

import pytest

from hostvm.agent.service import PortForward
from runtime.docker.hostnet import Listener, Look, listener_forwards, parse_listeners

# What the kernel of a little-endian guest writes.
LINES = """\
tcp 0100007F:1F90 111
tcp 00000000:0016 112
tcp6 00000000000000000000000000000000:0050 113
tcp6 00000000000000000000000001000000:0051 114
udp 00000000:0035 115
udp6 00000000000000000000000000000000:0036 116
nonsense
"""


def test_the_kernels_lines():
    assert parse_listeners(LINES) == [
        Listener("tcp", "127.0.0.1", 8080, "111"),
        Listener("tcp", "0.0.0.0", 22, "112"),
        Listener("tcp", "::", 80, "113"),
        Listener("tcp", "::1", 81, "114"),
        Listener("udp", "0.0.0.0", 53, "115"),
        Listener("udp", "::", 54, "116"),
    ]


def forwards(*listeners, expose="loopback"):
    owners = {str(number): "id" for number in range(10)}
    return set(listener_forwards([Listener(*one, "1") for one in listeners], owners, {"id": "web"}, expose))


@pytest.mark.parametrize(
    ("listener", "expose", "expected"),
    [
        (("tcp", "0.0.0.0", 80), "loopback", {PortForward("tcp", "127.0.0.1", 80, "127.0.0.1", 80)}),
        (("tcp", "0.0.0.0", 80), "lan", {PortForward("tcp", "0.0.0.0", 80, "127.0.0.1", 80)}),
        (
            ("tcp", "::", 80),
            "loopback",
            {PortForward("tcp", host, 80, "127.0.0.1", 80) for host in ("127.0.0.1", "::1")},
        ),
        (("tcp", "127.0.0.1", 80), "lan", {PortForward("tcp", "127.0.0.1", 80, "127.0.0.1", 80, outside=False)}),
        (("tcp", "::1", 80), "lan", {PortForward("tcp", "::1", 80, "::1", 80, outside=False)}),
        (("udp", "0.0.0.0", 53), "loopback", {PortForward("udp", "127.0.0.1", 53, "127.0.0.1", 53)}),
        (("udp", "0.0.0.0", 40000), "loopback", set()),  # a client's
        (("udp", "127.0.0.1", 53), "loopback", set()),  # ssh carries no UDP
        (("tcp", "172.17.0.1", 80), "lan", set()),  # on a network of the guest's
    ],
)
def test_where_a_listener_appears(listener, expose, expected):
    assert forwards(listener, expose=expose) == expected


def test_listeners_of_the_guest_itself_are_left_alone():
    assert listener_forwards([Listener("tcp", "0.0.0.0", 22, "5")], {"6": "id"}, {"id": "web"}, "loopback") == {}
    assert listener_forwards([Listener("tcp", "0.0.0.0", 22, "5")], {"5": "gone"}, {"id": "web"}, "loopback") == {}


class Program:
    """The kept program: each line of input is answered with the next text, in pieces."""

    def __init__(self, *answers):
        self.answers, self.ready = list(answers), b""

    def write_stdin(self, data):
        assert data == b"\n"
        self.ready += self.answers.pop(0)

    def read_stdout(self, size):
        piece, self.ready = self.ready[:7], self.ready[7:]
        return piece

    def close(self):
        pass


class GuestWith:
    def __init__(self, program):
        self.program = program

    def stream(self, argv):
        return self.program


def test_answers_are_read_to_their_end():
    look = Look(GuestWith(Program(b"tcp 00000000:0050 1\n.\n", b".\n", b"tcp 00000000:0051 2\n.\n")))
    assert [sorted(one.port for one in look.now()) for _ in range(3)] == [[80], [], [81]]


def test_a_program_that_ended_is_an_error():
    look = Look(GuestWith(Program(b"tcp 0000")))
    with pytest.raises(ConnectionError):
        look.now()
