"""Joining a socket of this computer to one in the guest, each direction ending by itself."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hostvm.agent.service import Traffic

if TYPE_CHECKING:
    from hostvm.guest import GuestStream

_CHUNK = 256 * 1024

_LOOK = 1.0
"""Seconds until the socket of a client that has ended its direction is let go when the guest was lost."""

HELD_UP = 1.0
"""Seconds after which a request counts as held up by what looks at it: no client gives up sooner."""


class LocalEnd(Protocol):
    """This computer's end of a connection: a socket, or on Windows an instance of a named pipe."""

    def recv(self, size: int, /) -> bytes:
        """See `socket.recv`."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """See `socket.sendall`."""
        ...

    def shutdown(self, how: int, /) -> None:
        """See `socket.shutdown`."""
        ...

    def close(self) -> None:
        """See `socket.close`."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """What becomes of something that a client sent.

    :param on: goes to the guest: what came, or what was kept until now, or nothing yet.
    :param back: goes to the client, as if the guest had said it.
    :param last: nothing more is said to the client.
    """

    on: bytes = b""
    back: bytes = b""
    last: bool = False


class Examine(Protocol):
    """Looks at what the client of one connection sends."""

    def __call__(self, data: bytes, /) -> Passage:
        """What becomes of a piece, as it was read; may block. An empty one is the end: what was kept goes on."""
        ...

    def hear(self, data: bytes, /) -> None:
        """What the guest says, before the client gets it; from another thread. Does not block."""
        ...


class PassOn:
    """Implements `Examine`: all goes on as it comes."""

    def __call__(self, data: bytes, /) -> Passage:
        """See `Examine`."""
        return Passage(data)

    def hear(self, data: bytes, /) -> None:
        """See `Examine`."""


def relay(sock: LocalEnd, stream: GuestStream, traffic: Traffic | None = None, examine: Examine | None = None) -> None:
    """Carry bytes both ways until both ends are done; closes both.

    An end of file travels as a half-close, so that a request may be ended while its answer still comes (the
    engine's attach and exec do that). A lost connection resets a TCP client.

    :param examine: is asked before anything that `sock` sent goes on.
    """
    traffic = traffic or Traffic()
    ends = _Ends()
    words = (sock, stream, traffic, examine, ends)
    upward = threading.Thread(target=_carry_up, args=words, name="relay-up", daemon=True)
    lost = False
    try:
        upward.start()
        lost = _carry_down(stream, sock, traffic, examine, ends)
        ends.heard.set()
        upward.join()
    finally:
        stream.close()
        if lost:
            reset(sock)
        else:
            sock.close()


def reset(sock: LocalEnd) -> None:
    """Close so that a TCP client sees a reset rather than an orderly end."""
    if isinstance(sock, socket.socket) and _is_tcp(sock):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _is_tcp(sock: LocalEnd) -> bool:
    return isinstance(sock, socket.socket) and sock.family != getattr(socket, "AF_UNIX", None)


@dataclass(slots=True)
class _Ends:
    """What one direction knows of the other.

    :param left: the client is gone, and the stream was closed for that.
    :param heard: set when the client has got all that the guest said.
    """

    left: bool = False
    heard: threading.Event = field(default_factory=threading.Event)


class _DeafError(Exception):
    """The guest takes no more."""


def _carry_up(sock: LocalEnd, stream: GuestStream, traffic: Traffic, examine: Examine | None, ends: _Ends) -> None:
    try:
        while data := sock.recv(_CHUNK):
            if examine is None:
                _send(stream, data)
            else:
                begun = time.monotonic()
                passage = examine(data)
                _pass(sock, stream, passage, held_up=time.monotonic() - begun >= HELD_UP)
            traffic.up += len(data)
        if examine is not None and (kept := examine(b"").on):
            _send(stream, kept)
        stream.shutdown_write()
        if _wait_hangup(sock, ends.heard):
            ends.left = True
            stream.close()
    except _DeafError:
        _let_hear(sock, ends.heard)
    except OSError:
        # Either side is gone for good: wake the other direction.
        _give_up(sock, stream, ends)
    except Exception:  # a fault of what looks at it: the client would wait for an answer for ever
        _give_up(sock, stream, ends)
        raise


def _give_up(sock: LocalEnd, stream: GuestStream, ends: _Ends) -> None:
    ends.left = True
    stream.close()
    _shutdown(sock, socket.SHUT_RDWR)


def _send(stream: GuestStream, data: bytes) -> None:
    try:
        stream.sendall(data)
    except OSError as error:
        raise _DeafError from error


def _let_hear(sock: LocalEnd, heard: threading.Event) -> None:
    """Drop what the client still sends, until it has got what the guest said before it hung up.

    An engine that refuses what is uploaded says why and closes, with the most of it unread: that answer may be on its
    way yet. What reads no more ends by itself, and with it the other direction.
    """
    with contextlib.suppress(OSError):  # the client is gone: the other direction finds out, or ends
        while sock.recv(_CHUNK) and not heard.is_set():
            pass


def _pass(sock: LocalEnd, stream: GuestStream, passage: Passage, *, held_up: bool) -> None:
    # Who was held up may have given up and asked again. Anybody else may send its last words and leave.
    if held_up and _has_left(sock):
        raise ConnectionAbortedError("who sent it has left meanwhile")
    if passage.back:  # clients wait for an answer before they ask again: the guest says nothing meanwhile
        sock.sendall(passage.back)
    if passage.last:
        _shutdown(sock, socket.SHUT_WR)
    if passage.on:
        _send(stream, passage.on)


def _has_left(sock: LocalEnd) -> bool:
    """Whether a client closed its end whole; only Linux' sockets tell that from an end of what it sends."""
    return isinstance(sock, socket.socket) and is_hung_up(sock)


def is_hung_up(sock: socket.socket) -> bool:
    """Whether the other end has closed both directions, or reset them; False where the system does not tell."""
    if sys.platform != "linux":
        return False
    poller = select.poll()
    poller.register(sock, 0)
    return bool(poller.poll(0))


def _carry_down(stream: GuestStream, sock: LocalEnd, traffic: Traffic, examine: Examine | None, ends: _Ends) -> bool:
    """Whether the guest was lost before its end."""
    try:
        while data := stream.recv(_CHUNK):
            if examine is not None:
                examine.hear(data)
            sock.sendall(data)
            traffic.down += len(data)
    except OSError:
        stream.close()
        _shutdown(sock, socket.SHUT_RDWR)
        return False
    lost = stream.lost and not ends.left
    if lost and _is_tcp(sock) and sys.platform != "win32":
        _shutdown(sock, socket.SHUT_RD)  # wakes the other direction, and tells the client nothing: it gets a reset
    else:
        _shutdown(sock, socket.SHUT_RDWR if stream.lost else socket.SHUT_WR)
    return lost


def _wait_hangup(sock: LocalEnd, heard: threading.Event) -> bool:
    """After the client's end of file: wait until it is known to be gone altogether, or both directions ended.

    Only Linux' sockets (POLLHUP: both directions are shut) and pipes tell the two apart. A client that was killed
    would otherwise hold its stream until the guest next writes, which for `docker events` may be never.
    """
    if not isinstance(sock, socket.socket):
        wait = getattr(sock, "wait_hangup", None)
        if wait is not None:
            wait()
        return wait is not None
    if sys.platform != "linux":
        return False
    poller = select.poll()
    poller.register(sock, 0)
    # That the guest was lost shuts a TCP client's socket in one direction only, which is told to nobody who waits.
    while not poller.poll(_LOOK * 1000 if _is_tcp(sock) else None):
        if heard.is_set():
            return False
    return True


def _shutdown(sock: LocalEnd, how: int) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(how)
