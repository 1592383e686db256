"""The agent's socket: takes requests from `hostvm` commands and serves each in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from hostvm.agent import protocol
from hostvm.agent.accept import serve_each
from hostvm.agent.activity import LeavingError
from hostvm.agent.client import AgentNotReady
from hostvm.agent.session import Client, ExecSession, notice
from hostvm.errors import AgentError, HostvmError, SshError
from hostvm.guest import Pty
from hostvm.platform.local import LocalListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hostvm.agent.activity import Activity
    from hostvm.agent.config import AgentConfig
    from hostvm.agent.forwards import Ports
    from hostvm.agent.life import Life
    from hostvm.agent.parts import Parts

_HELLO_SECONDS = 5.0
_WAIT = 30.0


class Server:
    """Listens on the agent's socket from the moment it is made.

    :param facts: of the machine, part of every status.
    :param activity: counts commands.
    :param listen: takes docker clients again, after somebody else had their socket.
    """

    def __init__(
        self,
        config: AgentConfig,
        life: Life,
        ports: Ports,
        log: Callable[[str], None],
        facts: dict[str, Any],
        parts: Parts,
        activity: Activity,
        listen: Callable[[], None],
    ) -> None:
        self._activity = activity
        self._listen = listen
        self._env = config.env
        self._parts = parts
        self._life = life
        self._ports = ports
        self._log = log
        self._facts = facts
        self._sessions = 0
        self._told: dict[Client, tuple[bool, bool]] = {}
        self._lock = threading.Lock()
        self._listener = LocalListener(config.agent_sock)
        serve_each(self._listener, self._serve, "agent-socket")

    def close(self) -> None:
        """Take no more requests and remove the socket."""
        self._listener.close()

    def tell(self, text: str, *, everybody: bool = False) -> None:
        """A line on standard error of each command that asked for notices. Never blocks, whatever a client does.

        :param everybody: of each command of a user, whether it asked or not.
        """
        with self._lock:
            told = list(self._told.items())
        for client, (has_pty, asked) in told:
            if asked or everybody:
                client.notify(notice(text, has_pty=has_pty))

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.closing(sock), protocol.reader(sock) as frames:
            client = Client(sock, frames, self._facts["name"])
            try:
                self._request(sock, client)
            except HostvmError as error:
                client.fail(error)
            except protocol.ProtocolError as error:
                self._log(f"client: {error}")
                client.fail(AgentError("the agent does not understand this hostvm", str(error), "hostvm restart"))
            except OSError:
                pass  # the client left
            except Exception as error:  # noqa: BLE001 - one client's request must not end the agent
                self._log(f"request failed: {type(error).__name__}: {error}")
                client.fail(AgentError("the agent failed", f"{type(error).__name__}: {error}", "hostvm logs --agent"))
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _request(self, sock: socket.socket, client: Client) -> None:
        sock.settimeout(_HELLO_SECONDS)
        first = protocol.read_frame(client.frames)
        sock.settimeout(None)
        if first is None:
            return
        if first[0] != protocol.HELLO:
            raise protocol.ProtocolError("it does not begin with HELLO")
        hello = protocol.parse(first[1])
        if hello.get("version") != protocol.VERSION:
            raise AgentError(
                "the machine's agent is of another version of hostvm",
                f"it speaks {protocol.VERSION}, this command {hello.get('version')}",
                f"hostvm restart {self._facts['name']}",
            )
        operations = {
            "exec": self._exec,
            "ready": self._ready,
            "status": self._status,
            "wait": self._wait,
            "ports": self._list_ports,
            "reconnect": self._reconnect,
            "shutdown": self._end,
            "leave": self._leave,
            "listen": self._listen_again,
        }
        asked = self._parts.operations.get(str(hello.get("op")))
        if asked is not None:
            with _refusals_told():
                answer = asked(hello)
            client.send(protocol.control(protocol.OK, answer))
            return
        operation = operations.get(str(hello.get("op")))
        if operation is None:
            raise protocol.ProtocolError(f"unknown operation {hello.get('op')!r}")
        operation(client, hello)

    def _exec(self, client: Client, hello: dict[str, Any]) -> None:
        if hello.get("own"):
            self._run(client, hello)
            return
        try:
            with self._activity.use():
                self._run(client, hello)
        except LeavingError:
            raise self._leaves() from None

    def _run(self, client: Client, hello: dict[str, Any]) -> None:
        if auth_sock := hello.get("auth_sock"):
            self._parts.hear(str(auth_sock))
        connection = self._life.connection(float(hello.get("wait", _WAIT)), ready=bool(hello.get("ready", True)))
        size = hello.get("pty")
        try:
            process = connection.stream(
                [os.fsencode(word) for word in hello["argv"]],
                env={**self._env, **(hello.get("env") or {})},
                cwd=self._folder(hello.get("cwd")),
                pty=Pty(str(size["term"]), int(size["rows"]), int(size["columns"])) if size else None,
            )
        except SshError:
            if hello.get("ready", True):
                self._life.connection(0.0)  # why the machine stands still, if it does, has the better words
            raise
        with self._lock:
            self._sessions += 1
            if not hello.get("own"):
                self._told[client] = (bool(size), bool(hello.get("notices")))
        try:
            client.send(protocol.control(protocol.OK, {}))
            settle = self._life.settle if hello.get("notices") else _nothing
            explain = partial(self._parts.explain, connection) if hello.get("explain") else str
            ExecSession(client, process, settle, explain, has_pty=bool(size)).run()
        finally:
            with self._lock:
                self._sessions -= 1
                self._told.pop(client, None)
            with contextlib.suppress(OSError, SshError):
                process.close()

    def _ready(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        if self._activity.leaving:
            raise self._leaves()  # whoever waits for it must wait for the next agent
        self._life.connection(0.0)
        client.send(protocol.control(protocol.OK, {}))

    def _folder(self, path: str | None) -> str | None:
        """One that is not shared may exist in the guest all the same: /tmp, /etc."""
        return (self._parts.find_folder(path) or path) if path else None

    def _status(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        client.send(protocol.control(protocol.OK, self._all_facts()))

    def _wait(self, client: Client, hello: dict[str, Any]) -> None:
        def report(text: str) -> None:
            client.send(protocol.control(protocol.PROGRESS, {"text": text}))

        self._life.wait_ready(float(hello.get("timeout", 600.0)), report)
        client.send(protocol.control(protocol.OK, self._all_facts()))

    def _list_ports(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        client.send(protocol.control(protocol.OK, {"ports": self._ports.describe()}))

    def _reconnect(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        self._life.reconnect()
        client.send(protocol.control(protocol.OK, {}))

    def _end(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        client.send(protocol.control(protocol.OK, {}))
        self._life.stop()

    def _leaves(self) -> AgentNotReady:
        name = self._facts["name"]
        return AgentNotReady(f"machine {name} is being put to sleep", None, f"hostvm start {name}")

    def _leave(self, client: Client, hello: dict[str, Any]) -> None:
        """End, unless the machine is in use or was so within the last `after` seconds."""
        known = self._life.settle()  # a container may have started a moment ago
        left = self._activity.leaving or (known and self._activity.leave(float(hello["after"])))
        client.send(protocol.control(protocol.OK, {"left": left}))
        if left and not hello.get("stays"):
            self._life.stop()

    def _listen_again(self, client: Client, hello: dict[str, Any]) -> None:
        del hello
        with _refusals_told():
            self._listen()
        client.send(protocol.control(protocol.OK, {}))

    def _all_facts(self) -> dict[str, Any]:
        with self._lock:
            sessions = self._sessions
        return {
            **self._facts,
            "pid": os.getpid(),
            "sessions": sessions,
            "leaving": self._activity.leaving,
            "ports": self._ports.describe(),
            **self._life.describe(),
        }


@contextlib.contextmanager
def _refusals_told() -> Iterator[None]:
    """What the system refuses inside of the block is told to the client; else it would mean that the client has left.

    :raises AgentError: it refused.
    """
    try:
        yield
    except OSError as fault:
        again = "run the same command again; if that does not help: hostvm restart"
        raise AgentError("the system refuses what the agent was asked for", str(fault), again) from fault


def _nothing() -> None:
    """What a command needs that starts no containers."""
