"""The thin client once the guest has begun: output, signals and the terminal's size go where they belong.

What only some commands need, input and a terminal, is in modules of their own and loaded for those.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

from cli.forward import terminal_size
from hostvm.agent import protocol
from hostvm.errors import ForwardError

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    from cli.stdin import InputPump
    from hostvm.agent.client import Agent
else:
    import _signal as signal  # what signal wraps in enums, whose import takes 7 ms

_IN, _OUT, _ERR = 0, 1, 2
_LAST_CTRL_C = 3
_INTERRUPTED, _HUNG_UP = 130, 129
_FORWARDED_SIGNALS = {"SIGINT": "INT", "SIGTERM": "TERM", "SIGHUP": "HUP", "SIGQUIT": "QUIT"}
_FORWARDED_SIGNALS |= {"SIGUSR1": "USR1", "SIGUSR2": "USR2"}
_POLL_SECONDS = 0.25


class Session:
    """A program in the guest, joined to this process's descriptors until it ends.

    :param agent: it has answered that the program begins.
    :param stdin: as for `cli.forward.forward`, and so is `shown`.
    """

    def __init__(
        self, agent: Agent, stdin: int | None, *, tty: bool, shown: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._agent = agent
        agent.read_ahead()
        self._stdin = stdin
        self._tty = tty
        self._shown = shown
        # Reentrant: a signal's handler may interrupt another one of the same thread.
        self._send_lock = RLock()
        self._pump: InputPump | None = None
        self._interrupts = 0
        self._size = terminal_size(_OUT)
        self._status: int | None = None
        self._fault: BaseException | None = None

    def run(self) -> int:
        """Serve until the end; the program's exit status. Raises as `cli.forward.forward` does."""
        undo: list[Callable[[], object]] = []
        try:
            self._take_terminal(undo)
            self._take_signals(undo)
            self._start_input()
            if sys.platform == "win32":
                self._receive_beside()
            else:
                self._receive()
        finally:
            for step in reversed(undo):
                step()
        if self._status is None:
            raise self._agent.lost()
        return self._status

    # ---- from the agent

    def _receive(self) -> None:
        try:
            while self._status is None:
                kind, payload = self._agent.next_frame()
                if kind in (protocol.STDOUT, protocol.STDERR):
                    _write(_OUT if kind == protocol.STDOUT else _ERR, self._shown(payload) if self._shown else payload)
                elif kind == protocol.CREDIT:
                    if self._pump is not None:
                        self._pump.grant(protocol.parse_number(payload))
                elif kind == protocol.EXIT:
                    self._status = protocol.parse_number(payload)
        except _Left as left:
            self._status = left.status

    def _receive_beside(self) -> None:
        """Windows: a blocked receive hears no Ctrl-C, and nobody tells of a new window size."""
        import threading

        def receive() -> None:
            try:
                self._receive()
            except BaseException as fault:  # noqa: BLE001 - carried to the main thread
                self._fault = fault

        worker = threading.Thread(target=receive, name="receive", daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(_POLL_SECONDS)
                self._pass_size()
        except _Left as left:
            self._status = left.status
            return
        if self._fault is not None:
            raise self._fault

    # ---- to the agent

    def _send(self, data: bytes) -> None:
        try:
            with self._send_lock:
                self._agent.sock.sendall(data)
        except OSError:
            return  # the receiving side finds out why

    def _start_input(self) -> None:
        if self._stdin is None:
            self._send(protocol.frame(protocol.STDIN_END))
            return
        from cli.stdin import InputPump

        self._pump = InputPump(self._stdin, self._send)
        self._pump.start()

    def _take_terminal(self, undo: list[Callable[[], object]]) -> None:
        if sys.platform == "win32":
            from contextlib import ExitStack

            from cli.terminal import console_output, make_binary

            make_binary(*{_OUT, _ERR, self._stdin if self._stdin is not None else _IN})
            console = ExitStack()
            console.enter_context(console_output(_OUT, _ERR))
            undo.append(console.close)
        if self._tty and self._stdin is not None and os.isatty(self._stdin):
            from contextlib import ExitStack

            from cli.terminal import raw_terminal

            raw = ExitStack()
            raw.enter_context(raw_terminal(self._stdin, _OUT))
            undo.append(raw.close)

    def _take_signals(self, undo: list[Callable[[], object]]) -> None:
        handlers: dict[str, Any] = dict.fromkeys(_FORWARDED_SIGNALS, self._pass_signal)
        if self._tty:
            handlers["SIGWINCH"] = lambda *_: self._pass_size()
        replaced: list[tuple[int, Any]] = []
        undo.append(lambda: [signal.signal(*pair) for pair in replaced])
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            # nohup's and a background job's "ignore" stays.
            if number is None or signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                replaced.append((number, signal.signal(number, handler)))
            except ValueError:
                return  # another thread than the main one: signals are not ours

    def _pass_signal(self, number: int, frame: object) -> None:
        del frame
        name = next(short for long, short in _FORWARDED_SIGNALS.items() if getattr(signal, long, None) == number)
        if name == "INT":
            self._interrupts += 1
            if self._interrupts >= _LAST_CTRL_C:
                raise _Left(_INTERRUPTED)
        if name == "HUP" and self._tty:
            # The terminal is gone, and its program with it: docker's client would wait for its container for ever.
            raise _Left(_HUNG_UP)
        self._send(protocol.frame(protocol.SIGNAL, name.encode()))

    def _pass_size(self) -> None:
        size = terminal_size(_OUT)
        if self._tty and size != self._size:
            self._size = size
            self._send(protocol.resize(*size))


class _Left(BaseException):
    """This client leaves at once, and the agent ends the program. No `except Exception` may hold it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody who shares the terminal made it non-blocking.
            import select

            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            from hostvm.platform.words import free_room

            raise ForwardError(
                "the command's output cannot be written here",
                error.strerror,
                f"{free_room('.')}   # is the disk full?",
            ) from error
