"""An agent from its lock to its last line. What it runs besides is handed in."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from hostvm import process
from hostvm.agent.activity import Activity
from hostvm.agent.client import docker_address
from hostvm.agent.console import ConsoleKeeper
from hostvm.agent.forwards import Ports, SocketForward
from hostvm.agent.life import Life
from hostvm.agent.log import AgentLog
from hostvm.agent.rules import Rules
from hostvm.agent.server import Server
from hostvm.files import private_folder
from hostvm.paths import docker_pipe
from hostvm.platform.limits import raise_descriptor_limit
from hostvm.platform.local import LocalListener
from hostvm.ssh.connection import import_paramiko

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hostvm.agent.accept import Listener
    from hostvm.agent.config import AgentConfig
    from hostvm.agent.parts import Parts
    from hostvm.agent.service import Forwards, PortForward, Traffic
    from hostvm.errors import HostvmError
    from hostvm.ssh.polled import PolledStream
    from hostvm.ssh.process import SshStream

    Made = TypeVar("Made")

_LOCK_SECONDS = 15.0
_ENGINE_WAIT = 60.0
_STACK = 512 * 1024


class _Host:
    """The agent's abilities for services."""

    def __init__(self, machine: str, ports: Ports, log: Callable[[str], None]) -> None:
        self.machine = machine
        self._ports = ports
        self._log = log
        self.clients: Callable[[str, bool], None] = lambda *_: None
        self.activity = Activity()

    def open_port(self, forward: PortForward) -> None:
        self._ports.open_port(forward)

    def close_port(self, forward: PortForward) -> None:
        self._ports.close_port(forward)

    def traffic(self, forward: PortForward) -> Traffic:
        return self._ports.traffic(forward)

    def idle(self) -> float:
        return self.activity.idle()

    def serves(self) -> bool:
        return self.activity.serves()

    def log(self, text: str) -> None:
        self._log(text)

    def tell(self, text: str, *, everybody: bool = False) -> None:
        self._log(text)
        self.clients(text, everybody)


def run_agent(
    config: AgentConfig,
    parts: Parts,
    is_running: Callable[[], bool],
    *,
    forwards: Forwards | None = None,
    stalled: Callable[[], HostvmError | None] = lambda: None,
    capture: bool = False,
    lock_seconds: float = _LOCK_SECONDS,
) -> int:
    """Serve one machine until it is off or a client says shutdown; returns the process's exit status.

    May be started before the machine: it waits for it to appear. Only one agent serves a machine: a second one
    waits a little for the first to end and then leaves with status 3. Sockets of a dead agent are replaced.

    :param is_running: whether the machine is powered on; see `Life`.
    :param forwards: the hypervisor's quick way to ports of the guest.
    :param stalled: why the machine stands still, see `Life`.
    :param lock_seconds: how long to wait for another agent's end.
    :param capture: send standard output and error to the log; for a process of its own.
    """
    private_folder(Path(config.run_dir))
    log = AgentLog(config.log, capture=capture)
    if capture:
        process.show_commands(lambda line: log(f"+ {line}"))
    try:
        with FileLock(config.lock, timeout=lock_seconds, mode=0o600):
            _serve(config, parts, is_running, forwards, stalled, log)
    except Timeout:
        log("another agent serves this machine: leaving")
        return 3
    return 0


def _serve(
    config: AgentConfig,
    parts: Parts,
    is_running: Callable[[], bool],
    forwards: Forwards | None,
    stalled: Callable[[], HostvmError | None],
    log: AgentLog,
) -> None:
    threading.stack_size(_STACK)
    raise_descriptor_limit()
    life: Life

    def begin_port(host: str, port: int, changed: Callable[[], None]) -> PolledStream:
        return _as_oserror(lambda: life.connection(0.0, ready=False).begin_tcp(host, port, changed))

    def connect_engine() -> SshStream:
        return life.connection(_ENGINE_WAIT).open_socket(config.engine_socket)

    rules = Rules(forwards, config.ssh_port, log)
    ports = Ports(begin_port, rules, log)
    facts: dict[str, Any] = {"name": config.name}
    host = _Host(config.name, ports, log)
    life = Life(config, parts, is_running, host, stalled)
    with contextlib.ExitStack() as undo:
        undo.enter_context(_stopped_by_signals(life))  # first, so that it lasts until all is closed
        undo.callback(ports.close)
        activity = Activity(parts.services)
        host.activity = activity

        def listen() -> None:
            """Again, too: whoever connected before stays connected."""
            if config.docker_api:
                forward(LocalListener(config.engine_sock))

        def forward(listener: Listener) -> None:
            connect = partial(_as_oserror, connect_engine)
            undo.callback(SocketForward(listener, connect, activity, log, parts.examine).close)

        server = Server(config, life, ports, log, facts, parts, activity, listen)
        undo.callback(server.close)
        host.clients = lambda text, everybody: server.tell(text, everybody=everybody)
        listen()
        undo.callback(ConsoleKeeper(Path(config.console), log).close)
        if config.docker_api:
            pipes = _pipe(config.name, log)
            for pipe in pipes:
                forward(pipe)
            if sys.platform != "win32" or pipes:
                facts["docker_host"] = docker_address(config.run_dir)
        log(f"agent of {config.name} begins")
        import_paramiko()  # while the guest boots
        life.run()
    log("agent ends")


def _pipe(name: str, log: AgentLog) -> list[Listener]:
    """Windows: the named pipe that docker clients look for; none when its name is taken, which the log tells."""
    if sys.platform == "win32":
        from hostvm.platform.named_pipe import PipeListener

        try:
            return [PipeListener(docker_pipe(name))]
        except OSError as error:
            log(f"docker clients of this computer cannot reach the engine: {docker_pipe(name)}: {error}")
    return []


def _as_oserror(connect: Callable[[], Made]) -> Made:
    from hostvm.errors import HostvmError

    try:
        return connect()
    except HostvmError as error:
        raise ConnectionError(error.brief) from error


@contextlib.contextmanager
def _stopped_by_signals(life: Life) -> Iterator[None]:
    """SIGTERM and SIGINT end the agent in order, a hang-up means nothing to it; afterwards all is as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[str, Any] = dict.fromkeys(("SIGTERM", "SIGINT"), lambda *_: life.stop())
    handlers["SIGHUP"] = signal.SIG_IGN
    before = {
        number: signal.signal(number, handler)
        for name, handler in handlers.items()
        if (number := getattr(signal, name, None)) is not None
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
