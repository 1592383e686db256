"""A client of QEMU's monitor: QMP, JSON lines over a socket, one command at a time, every wait with a deadline.

Protocol: https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from hostvm.drivers.qemu import unix_socket
from hostvm.errors import DriverError
from hostvm.qemu_binary import release

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_EVENTS_KEPT = 200
MESSAGE_MOST = 4 * 1024 * 1024
"""Bytes of one message; far more than any answer to what is asked here."""


class QmpGoneError(DriverError):
    """The monitor's connection ended: QEMU is gone, or going."""


class Qmp:
    """One session with the monitor; QEMU serves one at a time, others wait.

    :param connection: connected, QEMU's greeting not yet read.
    :param timeout: seconds for the greeting.
    :ivar version: QEMU's, (major, minor, micro), as `release` has it.
    :raises QmpGoneError: QEMU ended meanwhile.
    :raises DriverError: no greeting in time, or not one of QEMU's.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        self._connection = connection
        self._buffer = b""
        self._asked = 0
        self._events: list[dict[str, Any]] = []
        deadline = time.monotonic() + timeout
        try:
            greeting = self._read(deadline)
            _check_greeting(greeting)
            self.version = _version(greeting)
            self.execute("qmp_capabilities", timeout=max(0.1, deadline - time.monotonic()))
        except BaseException:
            connection.close()
            raise

    @classmethod
    def connect(cls, path: Path, timeout: float = 2.0) -> Self:
        """Open a session over the socket at `path`.

        :raises OSError: nothing listens there.
        :raises DriverError: as the constructor.
        """
        return cls(unix_socket.connect(path, timeout), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; QEMU goes on. Idempotent."""
        self._connection.close()

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float = 5.0,
        descriptor: int | None = None,
    ) -> Any:
        """Run one command and return what it returns.

        :param descriptor: an open file of ours that goes with it (`getfd`); not on Windows.
        :raises QmpGoneError: QEMU ended before it answered.
        :raises DriverError: QEMU refuses (its words are the details), or no answer in time.
        """
        deadline = time.monotonic() + timeout
        self._asked += 1
        request: dict[str, Any] = {"execute": command, "id": self._asked}
        if arguments:
            request["arguments"] = arguments
        try:
            self._connection.settimeout(timeout)
            words = json.dumps(request).encode() + b"\n"
            if descriptor is not None and sys.platform != "win32":
                socket.send_fds(self._connection, [words], [descriptor])
            else:
                self._connection.sendall(words)
        except OSError as error:
            raise QmpGoneError("QEMU has ended", f"{command}: {error}", _LOOK) from error
        while True:
            message = self._read(deadline)
            if message.get("id", self._asked) != self._asked:
                continue  # of a command before, whose wait was broken off or over
            if "return" in message:
                return message["return"]
            if "error" in message:
                told = _mapping(message["error"])
                raise DriverError(f"QEMU refuses {command}", f"{told.get('class')}: {told.get('desc')}", _LOOK)

    def wait_event(self, names: set[str], timeout: float) -> dict[str, Any] | None:
        """The first event of these names, also one that came earlier and was not taken; None when none came.

        :raises QmpGoneError: QEMU ended first.
        """
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] in names:
                    self._events.remove(event)
                    return event
            if time.monotonic() >= deadline:
                return None
            try:
                self._read(deadline, events_end_it=True)
            except TimeoutError:
                return None

    def _read(self, deadline: float, *, events_end_it: bool = False) -> dict[str, Any]:
        """The next message; events are put aside.

        :raises QmpGoneError: end of stream.
        :raises DriverError: a message that does not end.
        :raises TimeoutError: only when waiting for events; otherwise it becomes a DriverError.
        """
        while True:
            line, mark, rest = self._buffer.partition(b"\n")
            if not mark:
                self._receive(deadline, quiet=events_end_it)
                continue
            self._buffer = rest
            message = _message(line)
            if "event" not in message:
                return message
            self._events = [*self._events[1 - _EVENTS_KEPT :], message]
            if events_end_it:
                return message

    def _receive(self, deadline: float, *, quiet: bool) -> None:
        if len(self._buffer) > MESSAGE_MOST:
            told = f"a message of it has more than {MESSAGE_MOST >> 20} MiB"
            raise DriverError("the monitor's socket is not QEMU's", told, _LOOK)
        try:
            chunk = self._take(deadline - time.monotonic())
        except TimeoutError:
            if quiet:
                raise
            raise DriverError("QEMU's monitor does not answer", "another program may hold it", _LOOK) from None
        except OSError as error:
            raise QmpGoneError("QEMU has ended", str(error), _LOOK) from error
        if not chunk:
            raise QmpGoneError("QEMU has ended", "the monitor's connection was closed", _LOOK)
        self._buffer += chunk

    def _take(self, left: float) -> bytes:
        if left <= 0:
            raise TimeoutError  # though there may be more: of one that never stops
        self._connection.settimeout(left)
        return self._connection.recv(65536)


def _message(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("event", ""), str):
        raise DriverError("the monitor's socket is not QEMU's", repr(line[:200]), _LOOK)
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_greeting(greeting: dict[str, Any]) -> None:
    if "QMP" not in greeting:
        raise DriverError("the monitor's socket is not QEMU's", json.dumps(greeting)[:200], _LOOK)


def _version(greeting: dict[str, Any]) -> tuple[int, int, int]:
    told = _mapping(_mapping(_mapping(greeting["QMP"]).get("version")).get("qemu"))
    major, minor, micro = (told.get(part, 0) for part in ("major", "minor", "micro"))
    if not (isinstance(major, int) and isinstance(minor, int) and isinstance(micro, int)):
        raise DriverError("the monitor's socket is not QEMU's", json.dumps(greeting)[:200], _LOOK)
    return release(major, minor, micro)


_LOOK = "Look at the machine: hostvm status"
