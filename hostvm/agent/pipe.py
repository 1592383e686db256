"""A program in the guest as a file to write to, or to read from: what tar streams need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.agent import protocol
from hostvm.agent.client import Agent
from hostvm.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self


class GuestPipe:
    """Run one argv in the guest; `write` is its standard input, `read` its standard output. For one thread.

    :param wait: seconds that the machine may take to be reached.
    :raises HostvmError: no agent, no connection, or the guest refuses.
    """

    def __init__(self, run_dir: Path, argv: Sequence[str], wait: float = 30.0) -> None:
        self._agent = Agent(run_dir)
        self._credit = protocol.WINDOW
        self._output: list[bytes] = []
        self._errors: list[bytes] = []
        self._status: int | None = None
        self._ended_input = False
        try:
            self._agent.ask("exec", argv=list(argv), wait=wait, ready=False)
            self._agent.answer()
        except BaseException:
            self._agent.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up; a program that still runs is ended by the agent."""
        self._agent.close()

    def write(self, data: bytes) -> int:
        """All of it, waiting while the guest does not read.

        :raises MachineError: the program ended before; with what it said.
        """
        view = memoryview(data)
        while view:
            while self._credit == 0 and self._status is None:
                self._take()
            if self._status is not None:
                raise self._failed()
            piece = view[: min(self._credit, protocol.CHUNK)]
            if not self._send(protocol.frame(protocol.STDIN, bytes(piece))):
                self._wait_end()
                raise self._failed()
            self._credit -= len(piece)
            view = view[len(piece) :]
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all with -1); b"" at the end. Standard input is ended first."""
        self._end_input()
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._output:
                if self._status is not None:
                    break
                self._take()
                continue
            piece = self._output.pop(0)
            room = len(piece) if size < 0 else size - len(found)
            found += piece[:room]
            if piece[room:]:
                self._output.insert(0, piece[room:])
        return bytes(found)

    def finish(self) -> None:
        """End standard input and wait for the program's end.

        :raises MachineError: its status is not 0; with what it said.
        """
        self._end_input()
        self._wait_end()
        if self._status:
            raise self._failed()

    def _end_input(self) -> None:
        if not self._ended_input:
            self._ended_input = True
            self._send(protocol.frame(protocol.STDIN_END))

    def _send(self, frame: bytes) -> bool:
        """False when the agent has hung up: the program has ended, and what it said before that can still be read."""
        try:
            self._agent.sock.sendall(frame)
        except OSError:
            return False
        return True

    def _wait_end(self) -> None:
        while self._status is None:
            self._take()

    def _take(self) -> None:
        kind, payload = self._agent.next_frame()
        if kind == protocol.STDOUT:
            self._output.append(payload)
        elif kind == protocol.STDERR:
            self._errors.append(payload)
        elif kind == protocol.CREDIT:
            self._credit += protocol.parse_number(payload)
        elif kind == protocol.EXIT:
            self._status = protocol.parse_number(payload)

    def _failed(self) -> MachineError:
        said = b"".join(self._errors).decode("utf-8", "replace").strip()
        return MachineError(
            "the guest refuses", said or f"its program ended with status {self._status}", "look: hostvm shell"
        )
