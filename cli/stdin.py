"""The thin client's input: read as fast as the agent gives credit for it, in a thread of its own."""

from __future__ import annotations

import errno
import os
import select
import sys
import threading

from hostvm.agent import protocol

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 0.25


class InputPump:
    """Sends what `descriptor` gives, then STDIN_END.

    :param send: takes whole frames; called in the pump's thread.
    """

    def __init__(self, descriptor: int, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._terminal = os.isatty(descriptor)
        self._read = _reader(descriptor)
        self._credit = protocol.WINDOW
        self._credit_grew = threading.Condition()

    def start(self) -> None:
        """Begin; the thread ends with the input or with the process."""
        threading.Thread(target=self._pump, name="stdin", daemon=True).start()

    def grant(self, size: int) -> None:
        """The agent takes `size` bytes more."""
        with self._credit_grew:
            self._credit += size
            self._credit_grew.notify()

    def _pump(self) -> None:
        while True:
            with self._credit_grew:
                self._credit_grew.wait_for(lambda: self._credit > 0)
                credit = self._credit
            try:
                data = self._read(min(credit, protocol.CHUNK))
            except OSError as fault:
                self._tell(fault)
                break
            if not data:
                break
            with self._credit_grew:
                self._credit -= len(data)
            self._send(protocol.frame(protocol.STDIN, data))
        self._send(protocol.frame(protocol.STDIN_END))

    def _tell(self, fault: OSError) -> None:
        """A file that cannot be read to its end; not a terminal that went away, nor one that was never open."""
        if not self._terminal and fault.errno != errno.EBADF:
            try:
                sys.stderr.write(f"hostvm: the input broke off: {fault.strerror}\n")
            except OSError:
                return


def _reader(descriptor: int) -> Callable[[int], bytes]:
    if sys.platform == "win32":
        from cli.terminal import console_reader

        if (console := console_reader(descriptor)) is not None:
            return console
    return lambda size: _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    _wait_foreground(descriptor)
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            select.select([descriptor], [], [])


def _wait_foreground(descriptor: int) -> None:
    """A job in the background that reads its terminal is stopped by the system; ours may not need to read at all."""
    if sys.platform == "win32" or not os.isatty(descriptor):
        return
    pause = threading.Event()
    while True:
        try:
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                return
        except OSError:
            return  # not our controlling terminal: nobody stops us
        pause.wait(_POLL_SECONDS)
