"""The life of the connection to a guest: boot, ready, lost, found again, over."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm.agent.attempt import Attempt
from hostvm.agent.client import AgentNotReady
from hostvm.agent.engine import wait_engine
from hostvm.agent.service import Begins, GivesWay, Notices, Settles
from hostvm.agent.silence import TOLD_AFTER, TOLD_AFTER_BOOT, Silence
from hostvm.agent.watch import Watch
from hostvm.checks import run_checks
from hostvm.console import DATA_MARK, ENGINE_MARK, SSH_MARK, ConsoleMark, EngineTrouble, with_last_lines
from hostvm.errors import HostvmError, MachineError, SshError
from hostvm.provision import SYSTEM, USER
from hostvm.ssh.banner import wait_banner
from hostvm.ssh.connection import handshake

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hostvm.agent.config import AgentConfig
    from hostvm.agent.parts import Parts
    from hostvm.agent.service import Host
    from hostvm.ssh.connection import Connection

BOOTING, READY, LOST, FAILED = "booting", "ready", "reconnecting", "failed"

_PAUSE_MOST = 2.0
_AGAIN_SECONDS = 30.0
_LOOK_EVERY = 1.0
_APPEARS_WITHIN = 30.0
_STALL_EVERY = 5.0
_SELDOM = 15.0
_SETTLE_SECONDS = 3.0  # an emulated engine on a slow computer takes more than one to tell a start
_PAUSE_DATA = 0.05
_COMES_WITHIN, _PASSES_WITHIN, _PAUSE_PASS = 0.15, 1.0, 0.02
_DATA_SECONDS = 900.0  # it may be repaired first


class MachineOffError(Exception):
    """The machine runs no more, or the agent was told to end."""


class Life:
    """Keeps one connection while the machine runs; others wait on it for readiness.

    :param is_running: whether the machine is powered on (a paused one is); asked only while there is no
        connection, so it may be slow.
    :param stalled: why the machine stands still though it is on, None when it does not; asked only while it does not
        answer. Lets it go on where that can be.
    """

    def __init__(
        self,
        config: AgentConfig,
        parts: Parts,
        is_running: Callable[[], bool],
        host: Host,
        stalled: Callable[[], HostvmError | None] = lambda: None,
    ) -> None:
        self._stalled = stalled
        self._config = config
        self._preparations = parts.preparations
        self._services = parts.services
        self._checks = parts.checks
        self._provision = parts.provision
        self._is_running = is_running
        self._host = host
        self._another: Attempt | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._state = BOOTING
        self._error: HostvmError | None = None
        self._doing = ""
        self._warnings: list[str] = []
        self._marks: dict[str, float] = {}
        self._begun = time.monotonic()
        self._seen_running = False
        self._looked = 0.0
        self._looked_closely = time.monotonic()
        self._silence = Silence(config.name, Path(config.console))
        self._lets_pass = config.woken  # whatever woke the guest, before services that give way
        self._behind = False  # services that give way have not begun yet

    # ---- for the agent's main thread

    def run(self) -> None:
        """Serve until the machine is off or `stop` is called."""
        for service in self._services:
            if isinstance(service, Begins):
                service.begin(self._host)
        attempt = 0
        try:
            while True:
                try:
                    connection = self._reach()
                    attempt = 0
                    self._serve(connection)
                except (HostvmError, OSError, RuntimeError) as error:
                    self._failed(error)
                finally:
                    self._drop()
                if self._another is not None:
                    continue
                try:
                    self._pause(min(0.1 * 2 ** min(attempt, 5), _PAUSE_MOST))
                except (HostvmError, OSError, RuntimeError) as error:
                    self._failed(error)
                attempt += 1
        except MachineOffError:
            self._host.log("the machine is off")
        finally:
            for service in self._services:
                if isinstance(service, Begins):
                    service.end()
            if self._another is not None:
                self._another.close()

    def stop(self) -> None:
        """End `run` soon, from any thread."""
        self._stop.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        with self._changed:
            self._changed.notify_all()

    def reconnect(self) -> None:
        """Drop the connection so that a new one is made (a restored guest knows the old one no more)."""
        connection = self._connection
        if connection is not None:
            connection.close()

    # ---- for everybody else

    def connection(self, timeout: float, *, ready: bool = True) -> Connection:
        """The connection, waiting up to `timeout` seconds until the machine is ready (or only reached by ssh).

        :raises AgentNotReady: it was not in time; says what it is doing instead.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self._connection
                if found is not None and found.alive and (self._state == READY or not ready):
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._stop.is_set():
                    error = self._not_ready()
                    raise AgentNotReady(error.brief, error.details, error.resolution)
                self._changed.wait(left)

    def wait_ready(self, timeout: float, report: Callable[[str], None]) -> None:
        """Wait until the machine is ready, passing on what it is at now, and each time that is something else.

        :raises HostvmError: why it did not become ready.
        """
        deadline = time.monotonic() + timeout
        told = ""
        while True:
            with self._changed:
                while told == self._doing and self._state in (BOOTING, LOST) and not self._stop.is_set():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise self._not_started()
                    self._changed.wait(left)
                before, told = told, self._doing
                state, error = self._state, self._error
            if told != before:
                report(told)
            if state == READY:
                return
            if state == FAILED and error is not None:
                raise error
            if self._stop.is_set():
                raise self._not_started()

    def settle(self) -> bool:
        """Wait a moment until the services have caught up with the guest; False when they have not."""
        with self._changed:
            self._lets_pass = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._behind, _SETTLE_SECONDS)
        settled = [service.settle(_SETTLE_SECONDS) for service in self._services if isinstance(service, Settles)]
        return all(settled)

    def describe(self) -> dict[str, Any]:
        """Facts for `status`. Times are seconds since the agent began."""
        # Before the lock: a service may take its time, and nobody else should wait for it.
        services = {service.name: service.describe() for service in self._services}
        with self._changed:
            return {
                "state": self._state,
                "ready": self._state == READY,
                "marks": dict(self._marks),
                "doing": self._doing,
                "warnings": list(self._warnings),
                "error": None if self._error is None else str(self._error),
                "silent_since": self._silence.since or None,
                "services": services,
            }

    # ---- one connection's life

    def _reach(self) -> Connection:
        deadline = self._deadline()
        self._check_running()
        another, self._another = self._another, None
        if another is not None:
            connection = another.connection()
        else:
            self._say(self._silence.words() or "waiting for the guest's ssh server")
            sock = self._wait_banner(deadline)
            self._mark("banner")
            self._silence.over()
            connection = self._log_in(sock, deadline)
        self._silence.over()
        self._mark("ssh")
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        return connection

    def _log_in(self, sock: socket.socket, deadline: float) -> Connection:
        return handshake(
            sock,
            client_key=Path(self._config.client_key),
            host_public_key=self._config.host_public_key,
            deadline=deadline,
            user=self._config.user,
        )

    def _serve(self, connection: Connection) -> None:
        """Until the connection ends. It is kept when the machine does not get ready, for a look inside."""
        warmer = threading.Thread(target=self._prepare, args=(connection,), name="prepare", daemon=True)
        warmer.start()
        self._start_services(connection, early=True)
        pause = _PAUSE_MOST
        while connection.alive:
            try:
                self._make_ready(connection)
            except HostvmError as error:
                if not connection.alive:
                    raise
                self._failed(error)
                connection.wait_closed(pause)
                pause = min(pause * 2, _SELDOM)
                continue
            warmer.join()
            self._behind = True
            self._become(READY, None)
            self._mark("ready")
            self._host.log(f"ready: {self._marks}")
            try:
                self._start_services(connection, early=False, patient=False)
                self._let_pass(connection)
                self._start_services(connection, early=False, patient=True)
            finally:
                with self._changed:
                    self._behind = False
                    self._changed.notify_all()
            self._hold(connection)

    def _let_pass(self, connection: Connection) -> None:
        """A guest is woken for a command, as a rule: what all services ask of it at once would hold that one up.

        Until the command has ended or nobody came, but not for long: ports wait meanwhile.
        """
        began = time.monotonic()
        came = False
        with self._changed:
            while self._lets_pass and connection.alive and not self._stop.is_set():
                serves = self._host.serves()
                took = time.monotonic() - began
                if (came and not serves) or took > (_PASSES_WITHIN if came or serves else _COMES_WITHIN):
                    break
                came = came or serves
                self._changed.wait(_PAUSE_PASS)
            self._lets_pass = False

    def _prepare(self, connection: Connection) -> None:
        """While the engine starts: what costs the boot no time there would cost it some after it."""
        try:
            if not self._config.woken:  # the clock's program is the first one there, and waited for
                connection.warm_up()
        except SshError:
            return  # whoever uses the connection next finds out
        data = ConsoleMark(Path(self._config.console), DATA_MARK)
        begun = time.monotonic()
        while self._preparations and connection.alive and not data.seen():
            if self._stop.wait(_PAUSE_DATA):
                return
            if time.monotonic() - begun > _DATA_SECONDS:
                self._host.log(f"warning: the data disk is not mounted after {_DATA_SECONDS:.0f} s")
                break
        for prepare in self._preparations:
            try:
                prepare(connection)
            except Exception as error:  # noqa: BLE001 - none of them is worth a machine that does not start
                self._host.log(f"warning: {type(error).__name__}: {error}")

    def _make_ready(self, connection: Connection) -> None:
        self._provision(SYSTEM, connection, self._say)
        # The engine's time begins when no script holds it back any more.
        deadline = max(self._deadline(), time.monotonic() + self._config.boot_seconds * self._config.provision)
        if self._config.engine_socket:
            self._say("waiting for the container engine")
            console = Path(self._config.console)
            announced, trouble = ConsoleMark(console, ENGINE_MARK), EngineTrouble(console)
            place, name = self._config.engine_socket, self._config.engine
            try:
                wait_engine(connection, place, deadline, self._stop, announced.seen, trouble, name)
            except MachineError as error:
                if connection.alive and time.monotonic() < deadline:
                    raise  # the engine's own words are in it
                raise with_last_lines(error, console) from None
            self._mark("engine")
        if self._stop.is_set():
            raise MachineOffError
        console = Path(self._config.console)
        self._warnings = run_checks(connection, self._checks, deadline, console=console, report=self._say)
        for warning in self._warnings:
            self._host.log(f"warning: {warning}")
        self._provision(USER, connection, self._say)

    def _start_services(self, connection: Connection, *, early: bool, patient: bool | None = None) -> None:
        """:param patient: those that give way, or those that do not; None: all."""
        for service in (one for one in self._services if one.early == early):
            if patient not in (None, isinstance(service, GivesWay) and service.gives_way):
                continue
            try:
                service.start(connection, self._host)
            except Exception as error:  # noqa: BLE001 - one service's bug must not end the connection
                self._host.log(f"service {service.name} did not start: {type(error).__name__}: {error}")

    def _deadline(self) -> float:
        return max(self._begun + self._config.boot_seconds, time.monotonic() + _AGAIN_SECONDS)

    def _wait_banner(self, deadline: float) -> socket.socket:
        announced = ConsoleMark(Path(self._config.console), SSH_MARK)
        port = self._config.ssh_port
        try:
            return wait_banner(port, deadline, announced=announced.seen, check=self._check_running)
        except SshError:
            if self._silence.since:
                raise self._silence.error(port) from None
            raise

    def _check_running(self) -> None:
        """Called often while there is no connection; looks at the machine once a second."""
        if self._stop.is_set():
            raise MachineOffError
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        if self._is_running():
            self._seen_running = True
            if now - self._looked_closely > _STALL_EVERY:
                self._looked_closely = now
                if (why := self._stalled()) is not None:
                    raise why
            self._look_at_silence()
        elif self._seen_running or time.monotonic() - self._begun > _APPEARS_WITHIN:
            raise MachineOffError

    def _look_at_silence(self) -> None:
        silent = self._silence.look(TOLD_AFTER_BOOT if self._state == BOOTING else TOLD_AFTER)
        if words := self._silence.words():
            self._say(words)
            # Who waits for one that was ready need not wait as long as for a boot.
            if self._state == LOST and silent > _AGAIN_SECONDS:
                raise self._silence.error(self._config.ssh_port)

    def _hold(self, connection: Connection) -> None:
        """Until the connection ends."""
        watch = Watch(
            self._config.ssh_port, self._host.idle, self._waits_for_room, self._host.log, self._attempt, self._notice
        )
        self._another = watch.hold(connection)
        self._host.log("the connection to the guest was lost")

    def _attempt(self, sock: socket.socket) -> Attempt:
        return Attempt(sock, lambda sock: self._log_in(sock, time.monotonic() + _AGAIN_SECONDS))

    def _notice(self) -> None:
        for service in self._services:
            if isinstance(service, Notices):
                service.answers_again()

    def _waits_for_room(self, connection: Connection) -> bool:
        """Whether the machine stood still because its disk could not be written; returns when it does no more."""
        stood = False
        while connection.alive and (why := self._stalled()) is not None:
            if not stood:
                self._become(FAILED, why)
                self._host.tell(str(why).replace("\n", "; "), everybody=True)
            stood = True
            self._stop.wait(_LOOK_EVERY)
        if stood and connection.alive:
            self._host.tell("the machine goes on", everybody=True)
            self._become(READY, None)
        return stood

    def _drop(self) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
            if self._state == READY:
                self._state = LOST
        if connection is None:
            return
        for service in self._services:
            try:
                service.stop()
            except Exception as error:  # noqa: BLE001 - as at the start
                self._host.log(f"service {service.name} did not stop: {type(error).__name__}: {error}")
        connection.close()

    def _failed(self, error: HostvmError | OSError | RuntimeError) -> None:
        if self._stop.is_set():
            return
        if not isinstance(error, HostvmError):  # no descriptors or threads left, say
            said = f"{type(error).__name__}: {error}"
            error = SshError("the guest cannot be reached", said, f"hostvm logs --agent {self._config.name}")
        self._host.log(f"not ready: {error}")
        in_time = self._state == BOOTING and time.monotonic() - self._begun < self._config.boot_seconds
        if in_time and type(error) is SshError:
            return  # A fault of the moment: sshd is restarting, say. Whoever waits goes on waiting.
        if isinstance(error, SshError):
            error = with_last_lines(error, Path(self._config.console))
        self._become(FAILED, error)

    def _pause(self, seconds: float) -> None:
        if not self._stop.wait(seconds):
            self._check_running()

    # ---- telling

    def _say(self, text: str) -> None:
        with self._changed:
            self._doing = text
            self._changed.notify_all()

    def _mark(self, name: str) -> None:
        with self._changed:
            self._marks[name] = round(time.monotonic() - self._begun, 3)

    def _become(self, state: str, error: HostvmError | None) -> None:
        with self._changed:
            self._state, self._error = state, error
            self._changed.notify_all()

    def _not_ready(self) -> HostvmError:
        name = self._config.name
        if self._error is not None:
            return self._error
        doing = self._doing or "starting"
        return AgentNotReady(
            f"machine {name} is not ready",
            f"it is {self._state}: {doing}",
            f"hostvm status {name}   # or see how far it got: hostvm logs --console {name}",
        )

    def _not_started(self) -> HostvmError:
        return with_last_lines(self._not_ready(), Path(self._config.console))
