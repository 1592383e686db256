"""What a client sent, and whether it still goes on when that was held up."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

import pytest

from hostvm.agent import relay as module
from hostvm.agent.relay import Passage, PassOn, relay


class Stream:
    """To the engine: keeps what it gets, and says nothing."""

    lost = False

    def __init__(self):
        self.got, self.sent, self.over = [], threading.Event(), threading.Event()

    def sendall(self, data):
        self.got.append(data)
        self.sent.set()

    def shutdown_write(self): ...

    def recv(self, _):
        self.over.wait(10)
        return b""

    def close(self):
        self.over.set()


class Examined(PassOn):
    """What `act` makes of what a client sends; `heard` is what the guest said."""

    def __init__(self, act):
        self._act, self.heard = act, []

    def __call__(self, data, /):
        return self._act(data)

    def hear(self, data, /):
        self.heard.append(data)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell who has left from who says no more")
@pytest.mark.parametrize("leaves", [True, False])
def test_a_request_whose_client_has_left_while_it_was_held_up_goes_no_further(leaves, monkeypatch):
    """It may have asked again: two containers of one name would be made."""
    monkeypatch.setattr(module, "HELD_UP", 0.0)
    client, ours = socket.socketpair()
    stream = Stream()

    def examine(data):
        if data:
            assert data == b"POST"
            client.close() if leaves else client.shutdown(socket.SHUT_WR)
        return Passage(data)

    client.sendall(b"POST")
    carrying = threading.Thread(target=relay, args=(ours, stream), kwargs={"examine": Examined(examine)})
    carrying.start()
    if not leaves:
        assert stream.sent.wait(10)
        stream.close()
        client.close()
    carrying.join(10)
    assert not carrying.is_alive()
    assert stream.got == ([] if leaves else [b"POST"])


def test_the_last_words_of_who_leaves_at_once_arrive():
    """As of who types into a container's input by its attach stream, and closes it."""
    client, ours = socket.socketpair()
    stream = Stream()
    client.sendall(b"quit\n")
    client.close()
    carrying = threading.Thread(target=relay, args=(ours, stream), kwargs={"examine": PassOn()})
    carrying.start()
    assert stream.sent.wait(10)
    stream.close()
    carrying.join(10)
    assert not carrying.is_alive()
    assert stream.got == [b"quit\n"]


class Relay:
    """One between a client and a guest; `becomes` are the passages of what is sent, in their order."""

    def __init__(self, *becomes):
        self.client, ours = socket.socketpair()
        self.client.settimeout(10)
        self.stream, self.asked, passages = Stream(), [], iter(becomes)

        def examine(data):
            self.asked.append(data)
            return next(passages, Passage())

        self.thread = threading.Thread(target=relay, args=(ours, self.stream), kwargs={"examine": Examined(examine)})
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.stream.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_a_request_is_answered_in_the_guests_place_and_the_next_one_goes_on():
    with Relay(Passage(back=b"no"), Passage(b"two, changed")) as one:
        one.client.sendall(b"one")
        assert one.client.recv(100) == b"no"
        one.client.sendall(b"two")
        assert one.stream.sent.wait(10)
        assert (one.stream.got, one.asked) == ([b"two, changed"], [b"one", b"two"])


def test_the_last_answer_ends_what_the_client_hears():
    with Relay(Passage(back=b"no", last=True)) as one:
        one.client.sendall(b"one")
        assert (one.client.recv(100), one.client.recv(100)) == (b"no", b"")


def test_what_was_kept_goes_on_when_the_client_says_no_more():
    with Relay(Passage(), Passage(b"beginning")) as one:
        one.client.sendall(b"beginning")
        one.client.shutdown(socket.SHUT_WR)
        assert one.stream.sent.wait(10)
        assert (one.stream.got, one.asked) == ([b"beginning"], [b"beginning", b""])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_what_looks_at_a_request_ends_the_connection():
    def examine(_):
        raise ValueError("a fault")

    client, ours = socket.socketpair()
    client.settimeout(5)  # its guest says for 10 s that it goes on
    carrying = threading.Thread(target=relay, args=(ours, Stream()), kwargs={"examine": Examined(examine)})
    carrying.start()
    client.sendall(b"PUT")
    assert client.recv(100) == b""
    carrying.join(10)
    assert not carrying.is_alive()


class Refusing(Stream):
    """To an engine that refuses what is uploaded: it reads no more, and what it says comes after that is known."""

    def __init__(self, *said):
        super().__init__()
        self._said = [*said, b""]

    def sendall(self, data):
        self.sent.set()
        raise BrokenPipeError

    def recv(self, _):
        assert self.sent.wait(10)
        return self._said.pop(0)


def upload(*said, examine=None):
    """The client of an upload that has begun, and what carries it; the guest refuses it with these words."""
    client, ours = socket.socketpair()
    client.settimeout(10)
    carrying = threading.Thread(target=relay, args=(ours, Refusing(*said)), kwargs={"examine": examine})
    carrying.start()
    client.sendall(b"the beginning")
    return client, carrying


@pytest.mark.parametrize("examine", [None, PassOn()])
def test_an_upload_that_is_refused_hears_why(examine):
    client, carrying = upload(b"no", b" room", examine=examine)
    told = b""
    while more := client.recv(100):
        told += more
    assert told == b"no room"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who never stops to upload is made to
        while True:
            client.sendall(bytes(100_000))
    carrying.join(10)
    assert not carrying.is_alive()
    client.close()


def test_one_who_leaves_while_the_answer_to_it_still_comes_is_let_go():
    client, carrying = upload(*[bytes(100_000)] * 100)
    client.close()
    carrying.join(10)
    assert not carrying.is_alive()


def test_what_the_guest_says_is_looked_at_before_the_client_gets_it():
    examined = Examined(Passage)
    client, carrying = upload(b"one", b"two", examine=examined)
    told = b""
    while more := client.recv(100):
        told += more
        assert b"".join(examined.heard).startswith(told)
    assert told == b"onetwo"
    client.close()
    carrying.join(10)
    assert not carrying.is_alive()
