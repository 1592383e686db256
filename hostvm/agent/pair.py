"""Two TCP sockets joined in a `Loop`: bytes, half-closes and resets of one appear at the other."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm.agent.loop import READ, WRITE
from hostvm.agent.relay import reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostvm.agent.loop import Loop
    from hostvm.agent.service import Traffic

_CHUNK = 256 * 1024
_BULK_AFTER = 256 * 1024
_TRICKLE = 64 * 1024


@dataclass(slots=True)
class _Half:
    """One direction: what was read and not yet written is `pending`, and nothing more is read until it is gone."""

    source: socket.socket
    sink: socket.socket
    pending: memoryview | None = None
    ended: bool = False
    moved: int = 0


class Pair:
    """Made in the loop's thread; closes both sockets when both directions have ended.

    :param client: this computer's side; `guest`: the other. Both connected and non-blocking.
    :param answered: called once, at the guest's first byte or end.
    :param done: called once, after both are closed.
    """

    buffer = memoryview(bytearray(_CHUNK))  # of the loop's one thread; nothing stays in it between two calls

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        guest: socket.socket,
        traffic: Traffic,
        *,
        answered: Callable[[Pair], None],
        done: Callable[[Pair], None],
    ) -> None:
        self._loop = loop
        self._up, self._down = _Half(client, guest), _Half(guest, client)
        self._traffic = traffic
        self._answered: Callable[[Pair], None] | None = answered
        self._done = done
        self._closed = False
        # Kept: the loop compares callbacks by identity.
        self._acts = {client: self._on_client, guest: self._on_guest}
        self._watch()

    def close(self, *, hard: bool = False) -> None:
        """End both connections; with `hard` by a reset. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for sock, act in self._acts.items():
            self._loop.watch(sock, 0, act)
            if hard:
                reset(sock)
            else:
                sock.close()
        self._hear()
        self._done(self)

    def _on_client(self, events: int) -> None:
        self._on(self._up, self._down, events)

    def _on_guest(self, events: int) -> None:
        self._hear()
        self._on(self._down, self._up, events)

    def _hear(self) -> None:
        if self._answered is not None:
            answered, self._answered = self._answered, None
            answered(self)

    def _on(self, reads: _Half, writes: _Half, events: int) -> None:
        try:
            if events & WRITE and writes.pending is not None:
                self._write(writes, writes.pending)
            if events & READ and not reads.ended and reads.pending is None:
                self._read(reads)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(hard=True)
            return
        if self._up.ended and self._down.ended and self._up.pending is None and self._down.pending is None:
            self.close()
        else:
            self._watch()

    def _read(self, half: _Half) -> None:
        size = half.source.recv_into(self.buffer)
        if not size:
            half.ended = True
            self._end(half)
            return
        half.moved += size
        if half is self._up:
            self._traffic.up += size
        else:
            self._traffic.down += size
        if half.moved > _BULK_AFTER and size < _TRICKLE:
            self._loop.breathe()
        self._write(half, self.buffer[:size])

    def _write(self, half: _Half, data: memoryview) -> None:
        try:
            sent = half.sink.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        rest = data[sent:]
        # The buffer is shared: what waits is a copy of its own.
        half.pending = None if not rest else (rest if data is half.pending else memoryview(bytes(rest)))
        if half.pending is None and half.ended:
            self._end(half)

    def _end(self, half: _Half) -> None:
        if half.pending is None:
            with contextlib.suppress(OSError):  # the other side has gone altogether meanwhile
                half.sink.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        for reads, writes in ((self._up, self._down), (self._down, self._up)):
            events = 0 if reads.ended or reads.pending is not None else READ
            if writes.pending is not None:
                events |= WRITE
            self._loop.watch(reads.source, events, self._acts[reads.source])
