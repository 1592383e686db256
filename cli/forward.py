"""The thin client: joins a program in the guest to this process's own descriptors, through the machine's agent.

Imports nothing heavy; its whole start is part of every forwarded command.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cli.guest_env import plain_env
from cli.terminal import make_binary, raw_terminal, terminal_size
from hostvm.agent import protocol
from hostvm.agent.client import Agent
from hostvm.errors import ForwardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_IN, _OUT, _ERR = 0, 1, 2
_WAIT = 60.0
_LAST_CTRL_C = 3
_INTERRUPTED = 130
_FORWARDED_SIGNALS = {"SIGINT": "INT", "SIGTERM": "TERM", "SIGHUP": "HUP", "SIGQUIT": "QUIT"}
_FORWARDED_SIGNALS |= {"SIGUSR1": "USR1", "SIGUSR2": "USR2"}
_POLL_SECONDS = 0.25


def forward(
    run_dir: Path,
    argv: Iterable[str],
    *,
    tty: bool | None = False,
    stdin: int | None = _IN,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    ready: bool = True,
) -> int:
    """Run one argv in the guest as if it ran here, and return its exit status (128+n: ended by signal n).

    Standard input, both outputs, Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and 2 and the terminal's size go where
    they belong. A third Ctrl-C leaves the program to its fate (it gets HUP) and returns 130.

    :param run_dir: the machine's; its agent must be there.
    :param tty: give the program a terminal. None: when standard input and output are terminals. With `stdin` the
        user's terminal is raw meanwhile; without it the program only draws on one.
    :param stdin: the descriptor to read input from; None gives the program none and leaves ours alone.
    :param env: variables to add in the guest; None: colours and time zone.
    :param cwd: the folder to be in, if the guest has it; None: this process's.
    :param ready: wait until the whole machine is ready, not only its ssh.
    :raises AgentAbsent: no agent listens.
    :raises HostvmError: the command could not be run, or the agent or machine went away.
    :raises BrokenPipeError: the reader of our output left.
    """
    if tty is None:
        tty = os.isatty(_IN) and os.isatty(_OUT)
    size = terminal_size(_OUT) if os.isatty(_OUT) else None
    variables = dict(plain_env(os.environ) if env is None else env)
    if size is not None and not tty:
        variables.setdefault("COLUMNS", str(size[1]))
    request: dict[str, Any] = {
        "argv": list(argv),
        "env": variables,
        "cwd": cwd or _own_folder(),
        "wait": _WAIT,
        "ready": ready,
    }
    if tty:
        rows, columns = size or terminal_size(_IN)
        request["pty"] = {"term": os.environ.get("TERM") or "xterm", "rows": rows, "columns": columns}
    with Agent(run_dir) as agent:
        agent.ask("exec", **request)
        agent.answer()
        return _Session(agent, stdin, tty=tty).run()


def _own_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - no pathlib here
    except OSError:
        return None  # it was deleted meanwhile


class _Session:
    def __init__(self, agent: Agent, stdin: int | None, *, tty: bool) -> None:
        self._agent = agent
        self._stdin = stdin
        self._tty = tty
        # Reentrant: a signal's handler may interrupt another one of the same thread.
        self._send_lock = threading.RLock()
        self._credit = protocol.WINDOW
        self._credit_grew = threading.Condition()
        self._interrupts = 0
        self._size = terminal_size(_OUT)
        self._status: int | None = None
        self._fault: BaseException | None = None

    def run(self) -> int:
        make_binary(*{_OUT, _ERR, self._stdin if self._stdin is not None else _IN})
        with ExitStack() as undo:
            if self._tty and self._stdin is not None and os.isatty(self._stdin):
                undo.enter_context(raw_terminal(self._stdin, _OUT))
            self._take_signals(undo)
            threading.Thread(target=self._pump_input, name="stdin", daemon=True).start()
            if sys.platform == "win32":
                self._receive_beside()
            else:
                self._receive()
        if self._status is None:
            raise self._agent.lost()
        return self._status

    # ---- from the agent

    def _receive(self) -> None:
        try:
            while self._status is None:
                kind, payload = self._agent.next_frame()
                if kind == protocol.STDOUT:
                    _write(_OUT, payload)
                elif kind == protocol.STDERR:
                    _write(_ERR, payload)
                elif kind == protocol.CREDIT:
                    with self._credit_grew:
                        self._credit += protocol.parse_number(payload)
                        self._credit_grew.notify()
                elif kind == protocol.EXIT:
                    self._status = protocol.parse_number(payload)
        except _Left:
            self._status = _INTERRUPTED

    def _receive_beside(self) -> None:
        """Windows: a blocked receive hears no Ctrl-C, and nobody tells of a new window size."""

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
        except _Left:
            self._status = _INTERRUPTED
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

    def _pump_input(self) -> None:
        while self._stdin is not None:
            with self._credit_grew:
                self._credit_grew.wait_for(lambda: self._credit > 0)
                credit = self._credit
            data = _read(self._stdin, min(credit, protocol.CHUNK))
            if not data:
                break
            with self._credit_grew:
                self._credit -= len(data)
            self._send(protocol.frame(protocol.STDIN, data))
        self._send(protocol.frame(protocol.STDIN_END))

    def _take_signals(self, undo: ExitStack) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        handlers: dict[str, Any] = dict.fromkeys(_FORWARDED_SIGNALS, self._pass_signal)
        if self._tty:
            handlers["SIGWINCH"] = lambda *_: self._pass_size()
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            # nohup's and a background job's "ignore" stays.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                undo.callback(signal.signal, number, signal.signal(number, handler))

    def _pass_signal(self, number: int, frame: object) -> None:
        del frame
        name = _FORWARDED_SIGNALS[signal.Signals(number).name]
        if name == "INT":
            self._interrupts += 1
            if self._interrupts >= _LAST_CTRL_C:
                raise _Left
        self._send(protocol.frame(protocol.SIGNAL, name.encode()))

    def _pass_size(self) -> None:
        size = terminal_size(_OUT)
        if self._tty and size != self._size:
            self._size = size
            self._send(protocol.resize(*size))


class _Left(BaseException):
    """The user insists on leaving. No `except Exception` may hold it."""


def _read(descriptor: int, size: int) -> bytes:
    _wait_foreground(descriptor)
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            select.select([descriptor], [], [])
        except OSError:
            return b""  # closed, or a terminal that went away


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


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody who shares the terminal made it non-blocking.
            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ForwardError(
                "the command's output cannot be written here",
                error.strerror,
                "df -h .   # is the disk full?",
            ) from error
