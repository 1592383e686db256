"""Clients of published ports led through ssh, hundreds by one thread: two for each would take 50 KiB of memory."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from hostvm.agent.loop import READ, WRITE, Loop
from hostvm.agent.relay import is_hung_up, reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.service import Traffic

_CHUNK = 64 * 1024  # four times as much is no faster, and who only types waits behind eight that upload
_PIECES_AT_ONCE = 4  # then others have their turn
_OPEN_SECONDS = 30.0
_LOOK_EVERY = 1.0
_SOCKETS_MOST = 400 if sys.platform == "win32" else 100_000
"""Of one loop: Windows' select() takes 512."""


class Polled(Protocol):
    """Implemented by `hostvm.ssh.polled.PolledStream`, which says what each does."""

    @property
    def lost(self) -> bool: ...
    def is_open(self) -> bool: ...
    def take(self, size: int, /) -> bytes | None: ...
    def put(self, data: memoryview, /) -> int: ...
    def shutdown_write(self) -> None: ...
    def close(self) -> None: ...


class Channels:
    """Joins clients to ports that only ssh reaches. Any thread may call anything.

    Its loops are not those of the other ports: sending waits while the connection takes nothing.

    :param begin: begins to open (host, port) of the guest; the third is called when the stream has something to tell,
        by any thread. Does not block; raises OSError.
    """

    def __init__(self, begin: Callable[[str, int, Callable[[], None]], Polled], log: Callable[[str], None]) -> None:
        self._begin = begin
        self._log = log
        self._lock = threading.Lock()
        self._lanes = [_Lane(log)]

    def carry(
        self, client: socket.socket, host: str, port: int, traffic: Traffic, done: Callable[[ChannelPair], None]
    ) -> ChannelPair:
        """Join them, until both directions have ended or `ChannelPair.close`.

        :param client: is closed in the end; reset when the guest refuses.
        :param done: called once, right before that.
        """
        lane = self._lane()
        pair = ChannelPair(lane, client, traffic, done)
        lane.loop.call(lambda: pair.open(lambda: self._begin(host, port, pair.changed)))
        return pair

    def close(self) -> None:
        """End all."""
        with self._lock:
            lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.loop.call_and_wait(lane.end)
            lane.loop.close()

    def _lane(self) -> _Lane:
        with self._lock:
            for lane in self._lanes:
                if lane.loop.watched < _SOCKETS_MOST:
                    return lane
            self._lanes.append(_Lane(self._log))
            return self._lanes[-1]


class _Lane:
    """A loop, its pairs, and which of them need a look now and then."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.loop = Loop("ssh-ports", log)
        self.pairs: set[ChannelPair] = set()
        self.buffer = memoryview(bytearray(_CHUNK))  # nothing stays in it between two calls
        self._to_look_at: set[ChannelPair] = set()

    def look_at(self, pair: ChannelPair) -> None:
        """Once a second, from now on."""
        if not self._to_look_at:
            self.loop.later(_LOOK_EVERY, self._look)
        self._to_look_at.add(pair)

    def forget(self, pair: ChannelPair) -> None:
        """It has ended."""
        self.pairs.discard(pair)
        self._to_look_at.discard(pair)

    def end(self) -> None:
        """All of them."""
        for pair in list(self.pairs):
            pair.finish()

    def _look(self) -> None:
        self._to_look_at = {pair for pair in list(self._to_look_at) if pair.look()}
        if self._to_look_at:
            self.loop.later(_LOOK_EVERY, self._look)


class ChannelPair:
    """A client's socket and a stream of the guest's: bytes, half-closes and resets of one appear at the other.

    Only `changed` and `close` may be used from other threads than the loop's.
    """

    def __init__(
        self, lane: _Lane, client: socket.socket, traffic: Traffic, done: Callable[[ChannelPair], None]
    ) -> None:
        self._lane = lane
        self._client = client
        self._traffic = traffic
        self._done = done
        self._stream: Polled | None = None
        self._act = self._on_client  # kept: the loop compares callbacks by identity
        self._begun = time.monotonic()
        self._open = self._closed = self._told = False
        self._up: memoryview | None = None  # read and not yet sent; nothing more is read until it is gone
        self._down: memoryview | None = None
        self._up_ended = self._down_ended = False
        self._deaf = False

    def changed(self) -> None:
        """The stream has something to tell. Returns at once."""
        if not self._told:
            self._told = True
            self._lane.loop.call(self._on_stream)

    def close(self) -> None:
        """End both. Idempotent."""
        self._lane.loop.call(self.finish)

    # ---- in the loop's thread

    def open(self, begin: Callable[[], Polled]) -> None:
        """Begin; the client waits in its socket until the guest has answered."""
        self._lane.pairs.add(self)
        try:
            self._client.settimeout(0.0)
            self._stream = begin()
        except OSError:  # there is no connection: as near to "refused" as one can come
            self.finish(hard=True)
            return
        self._lane.look_at(self)
        self._on_stream()

    def look(self) -> bool:
        """Whether to look again: at one that the guest has not opened yet, or whose client only listens."""
        if self._closed:
            return False
        if not self._open:
            if time.monotonic() - self._begun < _OPEN_SECONDS:
                return True
            self.finish(hard=True)
        elif self._up_ended:
            # A client that was killed would hold its stream until the guest next writes, which may be never.
            if not is_hung_up(self._client):
                return True
            self.finish()
        return False

    def finish(self, *, hard: bool = False) -> None:
        """`close`; with `hard` the client sees a reset."""
        if self._closed:
            return
        self._closed = True
        self._lane.forget(self)
        self._done(self)
        self._lane.loop.watch(self._client, 0, self._act)
        if hard:
            reset(self._client)
        else:
            self._client.close()
        if self._stream is not None:
            self._stream.close()

    def _on_client(self, events: int) -> None:
        if self._closed or self._stream is None:
            return
        try:
            if events & WRITE and self._down is not None:
                self._give(self._down)
            if self._down is None and not self._down_ended:
                self._hear(self._stream)
            if events & READ and self._up is None and not self._up_ended:
                self._read(self._stream)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # the client is gone
            self.finish()
            return
        self._go_on()

    def _on_stream(self) -> None:
        self._told = False
        if self._closed or self._stream is None:
            return
        try:
            if not self._open:
                if not self._stream.is_open():
                    return
                self._open = True
            if self._up is not None:
                self._send(self._stream, self._up)
            if self._down is None and not self._down_ended:
                self._hear(self._stream)
        except OSError:  # the client is gone, or nothing listens in the guest
            self.finish(hard=not self._open)
            return
        self._go_on()

    def _read(self, stream: Polled) -> None:
        """What the client says."""
        size = self._client.recv_into(self._lane.buffer)
        if not size:
            self._up_ended = True
            stream.shutdown_write()
            self._lane.look_at(self)
            return
        self._traffic.up += size
        if not self._deaf:
            self._send(stream, self._lane.buffer[:size])

    def _send(self, stream: Polled, data: memoryview) -> None:
        try:
            sent = stream.put(data)
        except OSError:
            # A guest that refuses what is uploaded says why and ends, with the most of it unread: that answer may be on
            # its way yet. Until it is here, the rest is taken and dropped.
            self._deaf, sent = True, len(data)
        rest = data[sent:]
        # The buffer is shared: what waits is a copy of its own.
        self._up = None if not rest else (rest if data is self._up else memoryview(bytes(rest)))

    def _hear(self, stream: Polled) -> None:
        """What the guest says."""
        for _ in range(_PIECES_AT_ONCE):
            data = stream.take(_CHUNK)
            if data is None:
                return
            if not data:
                self._hear_end(stream)
                return
            self._traffic.down += len(data)
            self._give(memoryview(data))
            if self._down is not None:
                return
        self.changed()  # there may be more, of which nothing tells any more

    def _hear_end(self, stream: Polled) -> None:
        if stream.lost:
            self.finish(hard=True)  # or it would take a part for the whole
        else:
            self._down_ended = True
            self._client.shutdown(socket.SHUT_WR)

    def _give(self, data: memoryview) -> None:
        try:
            sent = self._client.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._down = data[sent:] if sent < len(data) else None

    def _go_on(self) -> None:
        if self._closed:
            return
        if self._down_ended and (self._deaf or self._up_ended):
            self.finish()
            return
        events = 0
        if self._open and self._up is None and not self._up_ended:
            events |= READ
        if self._down is not None:
            events |= WRITE
        self._lane.loop.watch(self._client, events, self._act)
