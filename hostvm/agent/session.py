"""One program in the guest on behalf of one client."""

from __future__ import annotations

import contextlib
import queue
import select
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from hostvm.advice import for_machine
from hostvm.agent import protocol
from hostvm.errors import AgentError, HostvmError, SshError
from hostvm.paths import DEFAULT_MACHINE
from hostvm.plain import plain_line

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from io import BufferedReader

    from hostvm.guest import GuestProcess

_CHUNK = 256 * 1024
_GRACE = 2.0
_NOTICES_MOST = 50
_NOTICE_LETTERS = 1000
_SIGNALS = frozenset({"HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"})


def notice(text: str, *, has_pty: bool) -> bytes:
    """A frame: hostvm's own words among a program's. On a terminal that is raw a line's end takes two letters."""
    end = "\r\n" if has_pty else "\n"
    return protocol.frame(protocol.STDERR, f"hostvm: {plain_line(text[:_NOTICE_LETTERS])}{end}".encode())


class Client:
    """The agent's end of a client's connection; any thread may send.

    :param machine: for what errors advise.
    """

    def __init__(self, sock: socket.socket, frames: BufferedReader, machine: str = DEFAULT_MACHINE) -> None:
        self._socket = sock
        self._machine = machine
        self._lock = threading.Lock()
        self._notices: deque[bytes] = deque(maxlen=_NOTICES_MOST)
        self.frames = frames

    def send(self, data: bytes) -> None:
        """Send one whole frame, after the notices that wait. Blocks while the client does not read.

        :raises OSError: the client is gone.
        """
        with self._lock:
            while self._notices:
                self._socket.sendall(self._notices.popleft())
            self._socket.sendall(data)
        self._pass_notices()  # one that came meanwhile found the lock taken

    def notify(self, data: bytes) -> None:
        """Send a short frame, now or before the next one. Never blocks, never raises.

        Of a client that does not read, the latest are kept.
        """
        self._notices.append(data)
        self._pass_notices()

    def _pass_notices(self) -> None:
        while self._notices and self._lock.acquire(blocking=False):
            try:
                if not _takes(self._socket):
                    return
                self._socket.sendall(self._notices.popleft())
            except (OSError, ValueError, IndexError):
                return  # the client is gone, or another thread was quicker
            finally:
                self._lock.release()

    def fail(self, error: HostvmError) -> None:
        """Send an ERROR; a client that is gone is no matter."""
        facts = {
            "kinds": [kind.__name__ for kind in type(error).__mro__],
            "brief": error.brief,
            "details": error.details,
            "resolution": for_machine(error.resolution, self._machine),
        }
        with contextlib.suppress(OSError):
            self.send(protocol.control(protocol.ERROR, facts))


class ExecSession:
    """Joins a client to a program until the program ends or the client leaves.

    :param settle: called between the program's end and telling the client of it.
    :param explain: asked for a notice then, when the program has failed.
    :param has_pty: the program has a terminal, which is lost with the client.
    """

    def __init__(
        self,
        client: Client,
        process: GuestProcess,
        settle: Callable[[], object] = lambda: None,
        explain: Callable[[], str] = str,
        *,
        has_pty: bool = False,
    ) -> None:
        self._has_pty = has_pty
        self._client = client
        self._settle = settle
        self._explain = explain
        self._process = process
        # Bounded by the client's credit, not by the queue: a client that exceeds it is thrown out.
        self._input: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._owed = 0
        self._owed_lock = threading.Lock()
        self._finished = threading.Event()

    def run(self) -> None:
        """Serve until the end. Blocks; never raises for a client or program that is gone."""
        jobs: list[Callable[[], None]] = [self._write_input, self._finish]
        try:
            for job in jobs:
                threading.Thread(target=job, name=f"exec{job.__name__}", daemon=True).start()
            self._obey()
        finally:
            self._input.put(None)
            self._leave()

    def _obey(self) -> None:
        """Read the client's frames until it leaves or the program has ended."""
        while (received := self._next_frame()) is not None:
            kind, payload = received
            if kind == protocol.STDIN:
                with self._owed_lock:
                    self._owed += len(payload)
                    if self._owed > protocol.WINDOW:
                        raise protocol.ProtocolError("input beyond the credit that was given")
                self._input.put(payload)
            elif kind == protocol.STDIN_END:
                self._input.put(None)
            elif kind == protocol.SIGNAL:
                name = payload.decode("ascii", "replace")
                if name in _SIGNALS:
                    self._quietly(self._process.signal, name)
            elif kind == protocol.RESIZE:
                self._quietly(self._process.resize, *protocol.parse_size(payload))
            else:
                raise protocol.ProtocolError(f"unexpected frame {kind}")

    def _next_frame(self) -> tuple[int, bytes] | None:
        try:
            return protocol.read_frame(self._client.frames)
        except OSError:
            return None

    def _write_input(self) -> None:
        gone = False
        while (data := self._input.get()) is not None:
            if not gone:
                try:
                    self._process.write_stdin(data)
                except OSError:
                    gone = True  # the rest is taken and dropped, as a pipe's reader would never see it either
            with self._owed_lock:
                self._owed -= len(data)
            with contextlib.suppress(OSError):
                self._client.send(protocol.number(protocol.CREDIT, len(data)))
        self._quietly(self._process.close_stdin)

    def _finish(self) -> None:
        """Carry both outputs, then the status, or why there is none: the client waits for one of them."""
        try:
            status = self._carry_outputs()
        except HostvmError as error:
            self._finished.set()
            self._client.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - the client would wait for ever
            self._finished.set()
            self._client.fail(AgentError("the agent failed", f"{type(error).__name__}: {error}", "hostvm logs --agent"))
            return
        self._finished.set()
        with contextlib.suppress(Exception):  # ports that come late are no reason to lose the status
            self._settle()
        with contextlib.suppress(Exception):  # nor is an explanation that cannot be had
            if status != 0 and (text := self._explain()):
                self._client.notify(notice(text, has_pty=self._has_pty))
        with contextlib.suppress(OSError):
            self._client.send(protocol.number(protocol.EXIT, status))

    def _carry_outputs(self) -> int:
        """Until both end; gives the program's status."""
        errors = threading.Thread(
            target=self._carry, args=(self._process.read_stderr, protocol.STDERR), name="exec-err", daemon=True
        )
        errors.start()
        self._carry(self._process.read_stdout, protocol.STDOUT)
        errors.join()
        return self._process.wait()

    def _carry(self, read: Callable[[int], bytes], kind: int) -> None:
        listening = True
        while data := read(_CHUNK):
            if listening:
                try:
                    self._client.send(protocol.frame(kind, data))
                except OSError:
                    listening = False  # drained all the same, so that the program can end by itself

    def _leave(self) -> None:
        """The client is gone: whatever still runs gets HUP, then TERM, then loses its channel.

        What had a terminal is killed in between: docker's client hands both signals on to its container, which may
        ignore them, and would stay for as long as that. Without one a program may mean to outlive us (nohup).
        """
        for name in ("HUP", "TERM", "KILL") if self._has_pty else ("HUP", "TERM"):
            if self._finished.is_set():
                break
            self._quietly(self._process.signal, name)
            self._finished.wait(_GRACE)
        self._quietly(self._process.close)

    @staticmethod
    def _quietly(act: Callable[..., None], *words: object) -> None:
        with contextlib.suppress(OSError, SshError):
            act(*words)


def _takes(sock: socket.socket) -> bool:
    """Whether a socket takes some hundred bytes at once; more than a quarter of its buffer is free then, on Linux."""
    if sys.platform == "win32":
        return bool(select.select([], [sock], [], 0)[1])
    poller = select.poll()  # select() knows no numbers from 1024 on
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(0))
