"""Asking a machine's agent. Imports nothing heavy: the forwarding client is built on it.

A machine's run folder names it: its last part is the machine's name, and the sockets are in it.
"""

from __future__ import annotations

import os
import sys

from hostvm.agent import protocol
from hostvm.engines import ENGINES, WITHOUT_DOCKER_API
from hostvm.errors import AgentError, ForwardError, HostvmError, MachineError, SshError
from hostvm.paths import AGENT_JSON, AGENT_SOCK, DOCKER_SOCK, docker_pipe
from hostvm.platform.quick import connect_quick

TYPE_CHECKING = False  # a type checker takes it for typing's, which takes 8 ms to import
if TYPE_CHECKING:
    import _socket
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any, Self

    from hostvm.guest import Completed
    from images.progress import Progress

_PAUSE = 0.01
_PAUSE_ABSENT = 0.1
_LOG_LINES = 15
_CONNECT_SECONDS = 10.0
_LATE = 5.0  # seconds that an agent may take to say that the time is over


class AgentAbsent(AgentError):  # noqa: N818 - a state callers act on: the machine is started, the call repeated
    """No agent listens: the machine is off, or its agent died."""


class AgentNotReady(AgentError):  # noqa: N818 - as above: the caller waits, or starts the machine
    """The agent is there, its machine is not (yet, or for a moment) ready."""


class _AgentSilentError(AgentError):
    """It went away in the midst of a request, or hangs."""


_KINDS: dict[str, type[HostvmError]] = {
    "AgentError": AgentError,
    "AgentNotReady": AgentNotReady,
    "ForwardError": ForwardError,
    "MachineError": MachineError,
    "SshError": SshError,
}


class _Exact:
    """Reads from a socket what is asked for and no byte more, so that another reader can go on behind it."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock

    def read(self, size: int) -> bytes:
        """Less than `size` bytes only at the end of the stream."""
        found = b""
        while len(found) < size and (more := self._sock.recv(size - len(found))):
            found += more
        return found

    def close(self) -> None:
        """Nothing of its own to close."""


class Agent:
    """A connection to an agent; one request each.

    :param timeout: seconds that any one answer may take; None waits for ever.
    :param sock: the file's name: the agent's, or the sleeper's.
    :raises AgentAbsent: nobody listens there.
    :raises AgentError: somebody does, but takes no connections: within `timeout`, or ten seconds without one.
    """

    def __init__(self, run_dir: Path | str, timeout: float | None = None, sock: str = AGENT_SOCK) -> None:
        self.machine = os.path.basename(run_dir)  # noqa: PTH119 - the thin client counts milliseconds
        path = os.path.join(run_dir, sock)  # noqa: PTH118 - as above
        try:
            self.sock: _socket.socket = connect_quick(path, _CONNECT_SECONDS if timeout is None else timeout)
        except TimeoutError as error:
            raise self._silent("it takes no connections") from error
        except OSError as error:
            raise AgentAbsent(
                f"machine {self.machine} is not running",
                f"no agent listens on {path}",
                f"hostvm start {self.machine}",
            ) from error
        self.sock.settimeout(timeout)
        self._frames: protocol.Readable = _Exact(self.sock)

    def read_ahead(self) -> None:
        """From here on take frames from the connection in blocks, for a long answer. Not with a time-out."""
        self._frames = protocol.read_ahead(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._frames.close()
        self.sock.close()

    def ask(self, op: str, **facts: Any) -> None:
        """Send the request.

        :raises AgentError: the agent went away.
        """
        hello = {"version": protocol.VERSION, "op": op, **facts}
        try:
            self.sock.sendall(protocol.control(protocol.HELLO, hello))
        except OSError as error:
            raise self.lost() from error

    def next_frame(self) -> tuple[int, bytes]:
        """The agent's next frame; its ERROR is raised.

        :raises HostvmError: what the agent reports, or that it went away.
        """
        try:
            received = protocol.read_frame(self._frames)
        except TimeoutError as error:
            raise self._silent(None) from error
        except (OSError, protocol.ProtocolError) as error:
            raise self.lost() from error
        if received is None:
            raise self.lost()
        if received[0] == protocol.ERROR:
            raise error_of(protocol.parse(received[1]))
        return received

    def answer(self, report: Callable[[str], None] | None = None) -> dict[str, Any]:
        """The facts that end a request; lines of progress before them go to `report`.

        :raises HostvmError: as `next_frame`.
        """
        while True:
            kind, payload = self.next_frame()
            if kind == protocol.OK:
                return protocol.parse(payload)
            if kind == protocol.PROGRESS and report is not None:
                report(str(protocol.parse(payload).get("text", "")))

    def _silent(self, why: str | None) -> _AgentSilentError:
        return _AgentSilentError(
            f"the agent of machine {self.machine} does not answer",
            why,
            f"hostvm restart {self.machine}   # its log: hostvm logs --agent {self.machine}",
        )

    def lost(self) -> AgentError:
        """The error for an agent that went away."""
        return _AgentSilentError(
            f"the agent of machine {self.machine} went away",
            "it ended, was killed, or the machine was stopped meanwhile",
            f"hostvm status {self.machine}   # its log: hostvm logs --agent {self.machine}",
        )


def error_of(facts: dict[str, Any]) -> HostvmError:
    """The error an agent's ERROR frame tells."""
    kind = next((_KINDS[name] for name in facts.get("kinds", []) if name in _KINDS), HostvmError)
    return kind(str(facts.get("brief")), facts.get("details"), facts.get("resolution"))


def request(run_dir: Path | str, op: str, *, timeout: float = 10.0, **facts: Any) -> dict[str, Any]:
    """One request with one answer: status, ports, reconnect, leave, shutdown.

    :raises AgentAbsent: no agent listens.
    :raises HostvmError: the agent refused or went away.
    """
    with Agent(run_dir, timeout) as agent:
        agent.ask(op, **facts)
        return agent.answer()


def agent_status(run_dir: Path | str) -> dict[str, Any] | None:
    """The agent's facts; None when none answers. `ready` says whether forwarding can begin."""
    try:
        return request(run_dir, "status")
    except HostvmError:
        return None


def agent_is_ready(run_dir: Path | str) -> bool:
    """Whether an agent answers and its machine is ready."""
    try:
        request(run_dir, "ready")
    except HostvmError:
        return False
    return True


def wait_ready(run_dir: Path, deadline: float, progress: Progress) -> dict[str, Any]:
    """Wait until the machine is ready and return the agent's facts; the agent may still be starting.

    :param deadline: on `time.monotonic`'s clock.
    :param progress: told what the agent waits for, each time that is something else, and of checks that failed
        without stopping the start.
    :raises HostvmError: why the machine is not ready, with the last lines of its console.
    """
    import time

    said = ""

    def report(text: str) -> None:
        nonlocal said
        if text != said:
            said = text
            progress.doing(text)

    while True:
        try:
            facts = _wait(run_dir, deadline, report)
        except AgentAbsent:
            if time.monotonic() >= deadline or not _may_appear(run_dir):
                raise _with_console(_not_started(run_dir), run_dir) from None
            time.sleep(_PAUSE)
            continue
        except _AgentSilentError as error:  # an agent goes with its machine
            raise _with_console(error, run_dir) from None
        for warning in facts.get("warnings", []):
            progress.note(f"warning: {warning}")
        return facts


def _wait(run_dir: Path, deadline: float, report: Callable[[str], None]) -> dict[str, Any]:
    import time

    with Agent(run_dir) as agent:

        def hear(text: str) -> None:
            agent.sock.settimeout(max(0.0, deadline - time.monotonic()) + _LATE)
            if text:
                report(text)

        hear("")
        agent.ask("wait", timeout=max(0.0, deadline - time.monotonic()))
        return agent.answer(hear)


def end_agent(run_dir: Path, timeout: float = 10.0) -> None:
    """Tell the agent to end and wait until it has; one that does not is killed. Idempotent.

    An agent also ends by itself when its machine is off.
    """
    import time

    from hostvm.agent.spawn import end_process, is_gone

    deadline = time.monotonic() + timeout
    while True:
        try:
            request(run_dir, "shutdown", timeout=timeout)
        except AgentAbsent:
            # One that was started a moment ago does not listen yet.
            if time.monotonic() < deadline and not is_gone(run_dir, _PAUSE_ABSENT):
                continue
        except HostvmError:
            pass  # it went away while it answered, or hangs: looked after below
        break
    end_process(run_dir, max(0.1, deadline - time.monotonic()))


def run_in_guest(run_dir: Path, argv: Sequence[str], *, timeout: float = 60.0) -> Completed:
    """Run one argv in the guest, which need not be ready, and collect its output. It does not count as use.

    :raises HostvmError: no agent, no connection to the guest within `timeout` seconds, or once begun it took longer,
        whatever it says meanwhile.
    """
    import time

    from hostvm.guest import Completed

    output: dict[int, list[bytes]] = {protocol.STDOUT: [], protocol.STDERR: []}
    with Agent(run_dir, timeout) as agent:
        agent.ask("exec", argv=list(argv), wait=timeout, ready=False, own=True)
        agent.answer()
        try:  # noqa: SIM105 - contextlib is not imported for a client
            agent.sock.sendall(protocol.frame(protocol.STDIN_END))
        except OSError:
            pass  # the agent has hung up already: what it said before is read below
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            agent.sock.settimeout(left)
            try:
                kind, payload = agent.next_frame()
            except _AgentSilentError as error:
                if isinstance(error.__cause__, TimeoutError):
                    break
                raise
            if kind == protocol.EXIT:
                status = protocol.parse_number(payload)
                return Completed(status, b"".join(output[protocol.STDOUT]), b"".join(output[protocol.STDERR]))
            output.get(kind, []).append(payload)
    raise AgentError(
        f"{argv[0]} in machine {agent.machine} takes longer than {timeout:g} s",
        "nobody waits for it any more; it may go on",
        f"look there: hostvm shell -m {agent.machine} -- ps aux",
    )


class LocalStream:
    """A connected socket of this computer, as `hostvm.guest.Stream`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def recv(self, size: int) -> bytes:
        """See `Stream.recv`."""
        return self._socket.recv(size)

    def sendall(self, data: bytes) -> None:
        """See `Stream.sendall`."""
        self._socket.sendall(data)

    def shutdown_write(self) -> None:
        """See `Stream.shutdown_write`."""
        import socket

        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Stream.close`."""
        self._socket.close()


def open_engine(run_dir: Path) -> LocalStream:
    """A connection to the API that docker clients speak with the machine's engine, through its agent.

    :raises ForwardError: its engine has none.
    :raises OSError: no agent listens.
    """
    refuse_docker(os.path.basename(run_dir), engine_of(run_dir))  # noqa: PTH119 - as above
    from hostvm.platform.local import connect_local

    return LocalStream(connect_local(os.path.join(run_dir, DOCKER_SOCK)))  # noqa: PTH118 - as above


def engine_of(run_dir: Path | str) -> str:
    """The engine of a machine that has been started; "" where that is not known. No json for this."""
    try:
        with open(os.path.join(run_dir, AGENT_JSON), "rb") as file:  # noqa: PTH118, PTH123 - as above
            told = file.read()
    except OSError:
        return ""
    # An agent.json without it is an older hostvm's, which had one engine.
    return next((name for name in ENGINES if b'"engine": "%s"' % name.encode() in told), ENGINES[0])


def docker_host(run_dir: Path | str) -> str:
    """The value of DOCKER_HOST that leads docker clients of this computer to the machine's engine.

    :raises ForwardError: its engine is none for them; or on Windows, where the machine runs but the pipe of that name
        is another program's.
    """
    refuse_docker(os.path.basename(run_dir), engine_of(run_dir))  # noqa: PTH119 - as above
    if sys.platform == "win32":
        # Pipes' names are the whole computer's: a client must not be sent to somebody else's.
        facts = agent_status(run_dir)
        if facts is not None and "docker_host" not in facts:
            raise ForwardError(
                f"the pipe {docker_pipe(os.path.basename(run_dir))} is another program's, or another user's",  # noqa: PTH119
                "docker clients of this computer cannot reach the machine's engine",
                "give the machine another name, or use the guest's own client: set HOSTVM_CLIENT=guest",
            )
    return docker_address(run_dir)


def refuse_docker(name: str, engine: str) -> None:
    """Say so when docker clients cannot talk to a machine's engine.

    :raises ForwardError: they cannot.
    """
    if engine in WITHOUT_DOCKER_API:
        raise ForwardError(
            f"machine {name} has no Docker API",
            f"its engine is {engine}, which docker clients cannot talk to",
            f"its own client: hostvm -m {name} ctr images ls\nor another machine: hostvm start NAME --engine docker",
        )


def docker_address(run_dir: Path | str) -> str:
    """Where docker clients find the machine's engine while it runs."""
    if sys.platform == "win32":
        return f"npipe:////./pipe/{docker_pipe(os.path.basename(run_dir))}"  # noqa: PTH119 - as above
    return f"unix://{os.path.join(run_dir, DOCKER_SOCK)}"  # noqa: PTH118


def _may_appear(run_dir: Path) -> bool:
    from hostvm.agent.spawn import may_appear

    return may_appear(run_dir)


def _with_console(error: AgentError, run_dir: Path) -> AgentError:
    from pathlib import Path

    from hostvm.agent.config import load
    from hostvm.console import with_last_lines

    try:
        return with_last_lines(error, Path(load(run_dir).console))
    except HostvmError:
        return error  # no agent was ever told where that is


def _not_started(run_dir: Path) -> AgentError:
    from hostvm.agent.spawn import log_tail

    return AgentError(
        f"the agent of machine {run_dir.name} did not start",
        log_tail(run_dir, _LOG_LINES) or None,
        f"hostvm logs --agent {run_dir.name}",
    )
