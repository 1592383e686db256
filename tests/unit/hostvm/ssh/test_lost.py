"""A connection that is lost in the midst of something: who is told, and who is not."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from paramiko import common
from paramiko.message import Message

from hostvm.errors import SshError
from hostvm.guest import Pty
from hostvm.ssh.channel import GuestChannel
from hostvm.ssh.connection import Connection
from hostvm.ssh.process import SshProcess, SshStream
from hostvm.ssh.transport import WINDOW, GuestTransport


class Lost:
    """A transport whose connection is lost, of which its reader has not heard yet."""

    def __init__(self):
        self.sent = []
        self.lost = True

    def send_user(self, message):
        if self.lost:
            raise ConnectionError("the ssh connection was lost")
        self.sent.append(message.asbytes()[:1])

    def put_off(self, message, send):
        return False

    def get_log_channel(self):
        return "test"

    def get_transport(self):
        return self

    def is_active(self):
        return True

    def _sanitize_packet_size(self, size):
        return size

    def _unlink_channel(self, number): ...

    def open_guest_channel(self, kind, *fields):
        return self.channel

    def begin_session(self, when_open):
        raise ConnectionError("the ssh connection was lost")


@pytest.fixture
def transport():
    made = Lost()
    made.channel = channel = GuestChannel(1)
    channel._set_transport(made)
    channel._set_window(WINDOW, 32768)
    channel._set_remote_channel(1, WINDOW, 32768)
    channel.active = True
    return made


def arrives(channel, data):
    message = Message()
    message.add_string(data)
    channel._feed(Message(message.asbytes()))


def test_what_came_is_read_to_its_end(transport):
    """More than a tenth of the window, so that its reader makes room for more."""
    arrives(transport.channel, b"x" * WINDOW)
    stream = SshStream(transport.channel)
    assert len(stream.recv(WINDOW)) == WINDOW
    transport.channel._unlink()
    assert stream.recv(10) == b""
    assert stream.lost


def test_a_reader_makes_room_while_the_connection_lasts(transport):
    transport.lost = False
    arrives(transport.channel, b"x" * WINDOW)
    SshStream(transport.channel).recv(WINDOW)
    assert transport.sent == [common.cMSG_CHANNEL_WINDOW_ADJUST]


@pytest.mark.parametrize("has_pty", [True, False])
def test_a_program_is_let_go_of_without_an_error(transport, has_pty):
    process = SshProcess(transport.channel, has_pty=has_pty)
    process.signal("TERM")
    process.resize(24, 80)
    process.close_stdin()
    process.abort()
    process.close()


def test_who_writes_is_told(transport):
    with pytest.raises(ConnectionError):
        SshProcess(transport.channel, has_pty=False).write_stdin(b"x")
    with pytest.raises(ConnectionError):
        SshStream(transport.channel).sendall(b"x")


def test_who_writes_is_told_when_paramiko_has_heard_of_it(transport):
    transport.channel.closed = True
    with pytest.raises(ConnectionError):
        SshProcess(transport.channel, has_pty=False).write_stdin(b"x")


@pytest.mark.parametrize("pty", [None, Pty("xterm", 24, 80)])
def test_a_program_that_cannot_begin_is_an_error_of_ssh(transport, pty):
    with pytest.raises(SshError, match="did not start a program"):
        Connection(transport).stream(["true"], pty=pty)


def test_a_run_that_loses_its_connection_is_an_error_of_ssh(transport):
    """Its words were sent, then all was lost: output on its way is taken, and the status is missing."""
    transport.lost = False
    connection = Connection(transport)
    sent = threading.Event()

    def lose():
        sent.wait(10)
        transport.lost = True
        arrives(transport.channel, b"x" * WINDOW)
        while transport.channel.recv_ready():
            time.sleep(0.01)
        transport.channel._unlink()

    losing = threading.Thread(target=lose, daemon=True)
    losing.start()
    request = transport.channel.request

    def requested(kind, *fields, reply=False):
        request(kind, *fields, reply=reply)
        sent.set()

    transport.channel.request = requested
    with pytest.raises(SshError, match="exit status was lost"):
        connection.run(["true"], stdin=b"words")
    losing.join()


def test_no_thread_for_a_connection_from_the_guest_costs_that_one(monkeypatch):
    here, there = socket.socketpair()
    with here, there:
        transport = GuestTransport(here)
        transport._listening["/run/place"] = print

        def start(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        asked = Message()
        asked.add_string("forwarded-streamlocal@openssh.com")
        for number in (7, WINDOW, 32768):
            asked.add_int(number)
        asked.add_string("/run/place")
        transport._opened_by_guest(Message(asked.asbytes()))
        [channel] = transport._open.values()
        assert channel.closed


def test_a_reader_that_finds_the_connection_lost_ends_in_order(monkeypatch):
    """As paramiko wants it; whoever else sends is told in our words."""
    ours, theirs = socket.socketpair()
    made = GuestTransport(ours)
    monkeypatch.setattr(made, "_log", lambda *_: None)
    theirs.close()
    made.clear_to_send.set()
    made.active = True
    with pytest.raises(ConnectionError, match="the ssh connection was lost"):
        made.send_user(Message(b"x" * 100))
    monkeypatch.setattr(threading, "current_thread", lambda: made)
    with pytest.raises(EOFError):
        made.send_user(Message(b"x" * 100))
    ours.close()
