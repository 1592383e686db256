"""What a client sent, and whether it still goes on when that was held up."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from hostvm.agent.relay import relay


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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell who has left from who says no more")
@pytest.mark.parametrize("leaves", [True, False])
def test_a_request_whose_client_has_left_while_it_was_held_up_goes_no_further(leaves):
    """It may have asked again: two containers of one name would be made."""
    client, ours = socket.socketpair()
    stream = Stream()

    def before(data):
        assert data == b"POST"
        client.close() if leaves else client.shutdown(socket.SHUT_WR)

    client.sendall(b"POST")
    carrying = threading.Thread(target=relay, args=(ours, stream), kwargs={"before": before})
    carrying.start()
    if not leaves:
        assert stream.sent.wait(10)
        stream.close()
        client.close()
    carrying.join(10)
    assert not carrying.is_alive()
    assert stream.got == ([] if leaves else [b"POST"])
