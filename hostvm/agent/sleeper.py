"""What listens at docker.sock while a machine sleeps: the first connection wakes it, and is answered when it is awake.

A process of its own, a quarter of an agent's size: `python -m hostvm.agent.sleeper RUN_DIR WORDS...`, where WORDS run a
program that returns when the machine is awake, or fails with the reason on standard error. Once an agent has the
socket, the sleeper carries the connections that it took, and ends with the last of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from hostvm import process
from hostvm.agent import protocol
from hostvm.agent.accept import serve_each
from hostvm.errors import HostvmError
from hostvm.own import own_env
from hostvm.paths import DOCKER_SOCK, SLEEPER_SOCK
from hostvm.platform.local import LocalListener, connect_local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOK_EVERY = 5.0
_WAKE_SECONDS = 600.0
_ASK_SECONDS = 5.0
_SAME_ANSWER = 3.0
_REQUEST_MOST = 65536
_HANGUP_SECONDS = 2.0


class Sleeper:
    """Listens from the moment it is made.

    :param wake: returns when the machine is awake, "" then; otherwise why it is not.
    """

    def __init__(self, run_dir: str, wake: Callable[[], str]) -> None:
        self._wake = wake
        self._path = os.path.join(run_dir, DOCKER_SOCK)  # noqa: PTH118 - no pathlib: it is to stay small
        self._over = threading.Event()
        self._waking = threading.Lock()
        self._tried, self._why = 0.0, ""
        self._changed = threading.Condition()
        self._held = 0
        self._listen()
        self._control = LocalListener(os.path.join(run_dir, SLEEPER_SOCK))  # noqa: PTH118 - as above
        serve_each(self._control, self._answer, "control")

    def run(self) -> None:
        """Serve until told to end, or until nobody can find this sleeper any more; then until the last hangs up."""
        while not self._over.wait(_LOOK_EVERY):
            if self._control.replaced:
                break  # another one sleeps for this machine, or its folder was removed
            if not os.path.lexists(self._path):
                # An agent had it, and its machine did not wake. What cannot be had now is had later: whom this one
                # carries would be cut off by its end.
                with contextlib.suppress(OSError):
                    self._listen()
        self._engine.close()
        self._control.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._held)

    # ---- docker clients

    def _listen(self) -> None:
        self._engine = LocalListener(self._path)
        serve_each(self._engine, self._serve, "engine-socket")

    def _serve(self, sock: socket.socket) -> None:
        with self._changed:
            self._held += 1
        try:
            if why := self._awake():
                refuse(sock, why)
            else:
                self._carry(sock)
        except OSError:
            pass  # either side is gone
        finally:
            sock.close()
            with self._changed:
                self._held -= 1
                self._changed.notify_all()

    def _awake(self) -> str:
        """Wake the machine, unless it is awake or that was tried just now; why it is not, "" when it is."""
        with self._waking:
            if time.monotonic() - self._tried < _SAME_ANSWER and self._why:
                return self._why
            if not self._engine_is_there():
                self._why = self._wake()
                if not self._why and not self._engine_is_there():
                    self._why = "the machine is awake, but its agent does not listen"
                self._tried = time.monotonic()
            return self._why

    def _engine_is_there(self) -> bool:
        return self._engine.replaced and os.path.lexists(self._path)

    def _carry(self, sock: socket.socket) -> None:
        from hostvm.agent.relay import relay
        from hostvm.names.route import LocalStream

        relay(sock, LocalStream(connect_local(self._path)))

    # ---- hostvm's commands

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.closing(sock), protocol.reader(sock) as frames, contextlib.suppress(OSError):
            sock.settimeout(_ASK_SECONDS)
            first = protocol.read_frame(frames)
            if first is None or first[0] != protocol.HELLO:
                return
            facts = {"pid": os.getpid(), "parent": os.getppid(), "listens": self._path}
            sock.sendall(protocol.control(protocol.OK, facts))
            if protocol.parse(first[1]).get("op") == "shutdown":
                self._over.set()


def refuse(sock: Any, why: str) -> None:
    """Answer any request as the engine would when it cannot: docker's clients show the message."""
    sock.settimeout(_HANGUP_SECONDS)
    asked = sock.recv(_REQUEST_MOST)
    body = b"" if asked.startswith(b"HEAD ") else json.dumps({"message": why}).encode()
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(_REQUEST_MOST):
        pass


def waker(words: Sequence[str]) -> Callable[[], str]:
    """Wakes by running a program."""

    def wake() -> str:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} sleeper: a docker client came\n")
        sys.stderr.flush()
        try:
            done = process.run(words, timeout=_WAKE_SECONDS, env=own_env(), check=False)
        except HostvmError as error:
            return error.brief
        said = done.stderr.decode(errors="replace").strip()
        return "" if done.status == 0 else said or f"status {done.status}"

    return wake


def main(argv: Sequence[str]) -> int:
    """Sleep for one machine; returns the process's exit status."""
    threading.stack_size(256 * 1024)
    Sleeper(argv[0], waker(argv[1:])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
