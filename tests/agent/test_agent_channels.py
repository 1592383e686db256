"""Clients led through ssh by one thread: what each end's behaviour means for the other."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

import pytest
from agent_rig import read_all, until

from hostvm.agent import channels as module
from hostvm.agent.channels import Channels
from hostvm.agent.service import Traffic

ROOM = 100_000


class Stream:
    """The guest's end: `say`, `make_room`, `lose` play the guest; a lock stands for paramiko's."""

    def __init__(self, changed, opens):
        self.changed, self.lock = changed, threading.Lock()
        self.opens, self.refused, self.lost, self.deaf = opens, False, False, False
        self.said, self.over, self.heard, self.ended = bytearray(), False, bytearray(), False
        self.room = ROOM
        self.closed = threading.Event()

    def is_open(self):
        if self.refused:
            raise ConnectionRefusedError
        return self.opens

    def take(self, size):
        with self.lock:
            piece = bytes(self.said[:size])
            del self.said[:size]
            return piece if piece or self.over else None

    def put(self, data):
        with self.lock:
            if self.deaf:
                raise BrokenPipeError
            size = min(len(data), self.room)
            self.room -= size
            self.heard += data[:size]
            return size

    def shutdown_write(self):
        self.ended = True

    def close(self):
        self.closed.set()

    def play(self, **facts):
        with self.lock:
            for name, value in facts.items():
                setattr(self, name, value)
        self.changed()

    def say(self, data, *, end=False):
        with self.lock:
            self.said += data
            self.over = end
        self.changed()


class Rig:
    """`dial()` gives a client's socket and the stream that it was joined to."""

    def __init__(self):
        self.streams, self.opens, self.done, self.lines = [], True, [], []
        self.traffic = Traffic()
        self.channels = Channels(self.begin, self.lines.append)

    def begin(self, host, port, changed):
        assert (host, port) == ("10.0.2.15", 80)
        self.streams.append(Stream(changed, self.opens))
        return self.streams[-1]

    def dial(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        client.settimeout(10)
        count = len(self.streams)
        pair = self.channels.carry(ours, "10.0.2.15", 80, self.traffic, self.done.append)
        until(lambda: len(self.streams) > count)
        return client, self.streams[-1], pair


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.channels.close()
    assert made.lines == []


def test_what_the_client_says_waits_for_the_guests_room_and_so_does_its_end(rig):
    client, stream, _ = rig.dial()
    data = os.urandom(ROOM + 50_000)
    with client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        until(lambda: len(stream.heard) == ROOM)
        time.sleep(0.05)
        assert not stream.ended
        stream.play(room=ROOM)
        until(lambda: stream.ended)
        assert stream.heard == data
        stream.say(b"answer", end=True)
        assert read_all(client) == b"answer"
    until(lambda: len(rig.done) == 1)
    assert stream.closed.is_set()
    assert (rig.traffic.up, rig.traffic.down) == (len(data), 6)


def test_a_client_that_does_not_read_holds_back_only_its_own_guest(rig):
    slow, loud, _ = rig.dial()
    other, second, _ = rig.dial()
    data = os.urandom(1 << 20) * 40
    loud.say(data, end=True)
    second.say(b"hello")
    with slow, other:
        assert other.recv(100) == b"hello"
        with loud.lock:
            assert loud.said, "the rest is left with ssh, which then gives the guest no room"
        assert read_all(slow) == data


def test_what_is_said_before_the_guest_has_opened_waits(rig):
    rig.opens = False
    client, stream, _ = rig.dial()
    with client:
        client.sendall(b"early")
        time.sleep(0.05)
        assert not stream.heard
        stream.play(opens=True)
        until(lambda: stream.heard == b"early")


@pytest.mark.parametrize("how", ["refused", "late", "no connection"])
def test_a_guest_that_does_not_open_resets_the_client(rig, how, monkeypatch):
    rig.opens = False
    if how == "late":
        monkeypatch.setattr(module, "_OPEN_SECONDS", 0.0)
        monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    if how == "no connection":
        rig.channels._begin = lambda *_: os.close(-1)
        rig.streams.append(None)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            rig.channels.carry(listener.accept()[0], "10.0.2.15", 80, rig.traffic, rig.done.append)
    else:
        client, stream, _ = rig.dial()
        if how == "refused":
            stream.play(refused=True)
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    until(lambda: len(rig.done) == 1)


def test_a_client_whose_guest_is_lost_does_not_take_a_part_for_the_whole(rig):
    client, stream, _ = rig.dial()
    with client:
        stream.say(b"a part")
        assert client.recv(100) == b"a part"
        stream.play(lost=True, over=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_guest_that_takes_no_more_is_heard_to_its_end(rig):
    client, stream, _ = rig.dial()
    stream.deaf = True
    with client:
        sending = threading.Thread(target=send_quietly, args=(client, bytes(1 << 24)))
        sending.start()
        time.sleep(0.05)
        stream.say(b"too much", end=True)
        with contextlib.suppress(ConnectionResetError):
            assert read_all(client) == b"too much"
        sending.join(10)
    assert stream.closed.wait(10)


def send_quietly(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_killed_client_lets_go_of_a_guest_that_says_nothing(rig, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    client, stream, _ = rig.dial()
    client.shutdown(socket.SHUT_WR)
    until(lambda: stream.ended)
    time.sleep(0.05)
    assert not stream.closed.is_set()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert stream.closed.wait(10)


def test_a_reset_reaches_the_guest(rig):
    client, stream, _ = rig.dial()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert stream.closed.wait(10)


def test_closed_from_outside(rig):
    client, stream, pair = rig.dial()
    pair.close()
    assert stream.closed.wait(10)
    with client:
        assert client.recv(1) == b""
    until(lambda: rig.done == [pair])


def test_another_loop_where_one_may_have_no_more_sockets(rig, monkeypatch):
    monkeypatch.setattr(module, "_SOCKETS_MOST", 2)
    clients = []
    for number in range(4):
        client, stream, _ = rig.dial()
        clients.append(client)
        stream.say(b"%d" % number)
        assert client.recv(10) == b"%d" % number
    assert len(rig.channels._lanes) > 1
    for client in clients:
        client.close()
