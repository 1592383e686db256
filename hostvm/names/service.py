"""The reverse proxy for container names: one port for all machines of the user, held by whichever agent was first.

Every agent answers on a local socket for its own machine; the one that holds the port asks them in turn. When it
ends, another takes the port over.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from hostvm.agent.accept import accept_each, accept_from
from hostvm.agent.relay import relay
from hostvm.http_wire import HEAD_MOST, BadRequestError
from hostvm.names.asking import begin, drop, in_turn
from hostvm.names.http import DOMAIN, Head, RequestWatch, labels_of, parse_head
from hostvm.names.route import REQUEST_MOST, LocalStream
from hostvm.paths import DEFAULT_MACHINE, NAMES_SOCK
from hostvm.platform.local import LocalListener, close_listener, connect_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hostvm.agent.service import Host
    from hostvm.guest import Guest, GuestStream
    from hostvm.names.route import Router, Target

_HTTP = 80
_TLS = b"\x16\x03"
"""What TLS begins with (RFC 8446, 5.1)."""
_TAKE_OVER = 3.0
_HEAD_SECONDS = 30.0
_ASK_SECONDS = 10.0
_NEXT_SECONDS = 1.0
"""A machine that has not answered by then has the next one asked beside it."""
_LOOK_SECONDS, _LOOKS = 1.0, 8
_HELD_SECONDS = 1.0
_REASONS = {400: "Bad Request", 404: "Not Found", 421: "Misdirected Request", 502: "Bad Gateway"}


class _UnsureError(BadRequestError):
    """Whether a machine has a container of that name is not known: its engine does not answer."""


class NamesService:
    """Implements `hostvm.agent.service.Service`.

    :param run_dir: this machine's; beside it are those of the user's other machines.
    """

    name = "names"
    early = False

    def __init__(self, router: Router, port: int, machine: str, run_dir: Path) -> None:
        self._router = router
        self._port = port
        self._machine = machine
        self._run_dir = run_dir
        self._stopped = threading.Event()
        self._guest: Guest | None = None
        self._local: LocalListener | None = None
        self._held: list[socket.socket] = []
        self._foreign = False
        self._lock = threading.Lock()

    def start(self, guest: Guest, host: Host) -> None:
        """Answer for this machine, and hold the port unless another agent does."""
        self._guest, self._stopped = guest, threading.Event()
        self._local = LocalListener(str(self._run_dir / NAMES_SOCK))
        local = self._local
        accept_each(local.accept, lambda: local.closed, partial(self._serve_agent, local), "names-agents")
        threading.Thread(target=self._hold, args=(host, self._stopped), name="names", daemon=True).start()

    def stop(self) -> None:
        """Give the port to another agent."""
        with self._lock:
            self._stopped.set()
            held, self._held = self._held, []
        for listener in held:
            close_listener(listener)
        if self._local is not None:
            self._local.close()

    def describe(self) -> dict[str, Any]:
        """The address, whether this agent is the one that holds it, and whether somebody else did than one of ours.

        That is as of the last try to have it, some seconds ago at most: to ask the others takes its time.
        """
        facts = {"url": self._url("NAME"), "port": self._port, "held": bool(self._held)}
        return {**facts, "taken": self._foreign and not self._held}

    # ---- the shared port

    def _hold(self, host: Host, stopped: threading.Event) -> None:
        refused = self._foreign = False
        while not self._take(stopped):
            if not refused:
                host.log(f"names: port {self._port} is held by another agent or program")
            refused = True
            others = (place for place in self._machines() if place != self._run_dir)
            self._foreign = not any(_holds(place, self._port) for place in others)
            if stopped.wait(_TAKE_OVER):
                return
        host.log(f"names: answering at port {self._port}")

    def _take(self, stopped: threading.Event) -> bool:
        with self._lock:
            if stopped.is_set():
                return True
            try:
                self._held = _listen(self._port)
            except OSError:
                return False
            for listener in self._held:
                accept_from(listener, self._serve, "names-port")
            return True

    def _holding(self) -> int | None:
        """The port that this agent holds."""
        return self._port if self._held else None

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data, head = _read_head(sock)
            labels = labels_of(head.host)
            if not labels:
                _answer(sock, 200, self._index())
                return
            stream = self._connect(labels)
        except BadRequestError as error:
            _answer(sock, error.status, f"hostvm: {error}")
            return
        except OSError:
            sock.close()
            return
        watched = _WatchedSocket(sock, RequestWatch(head), data)
        relay(watched, stream)

    def _connect(self, labels: Sequence[str]) -> GuestStream:
        """:raises BadRequestError: no machine has such a container, or it does not answer."""
        unsure: _UnsureError | None = None
        calls = {place: partial(self._ask, place, labels) for place in self._machines()}
        with contextlib.closing(in_turn(calls, _NEXT_SECONDS, _ASK_SECONDS, _hang_up)) as answers:
            for place, answer in answers:
                try:
                    stream = answer.result() if answer is not None else _silent(place)
                except _UnsureError as fault:
                    # It may be another machine's: one whose engine is down must not take all names with it.
                    unsure = unsure or fault
                    continue
                if stream is not None:
                    return stream
        if unsure is not None:
            raise unsure
        known = ", ".join(self._all_names()) or "none"
        raise BadRequestError(404, f"no running container is called {'.'.join(labels)}; there are: {known}")

    def _ask(self, place: Path, labels: Sequence[str]) -> GuestStream | None:
        return self._own(labels) if place == self._run_dir else _ask_agent(place, labels)

    def _own(self, labels: Sequence[str]) -> GuestStream | None:
        guest = self._guest
        assert guest is not None, "started before it listens"
        target = self._find(guest, labels)
        if target is None:
            return None
        try:
            return self._open(guest, labels, target)
        except OSError as fault:
            name = ".".join(labels)
            raise BadRequestError(
                502, f"container {name} does not answer at its port {target.port}; another: label hostvm.http.port"
            ) from fault

    def _open(self, guest: Guest, labels: Sequence[str], target: Target) -> GuestStream | None:
        """A way to a container that was listed; None when it is not any more.

        The engine lists one for a moment after it stopped, and the guest tries an address that nobody has any more for
        up to half a minute. So the list is read again meanwhile.

        :raises OSError: it does not answer.
        """
        opening = begin(partial(guest.open_tcp, target.host, target.port))
        kept = False
        try:
            for _ in range(_LOOKS):
                ended = bool(wait([opening], _LOOK_SECONDS).done)
                kept = ended and opening.exception() is None
                if not kept and self._find(guest, labels) is None:
                    return None
                if ended:
                    return opening.result()
            raise TimeoutError(f"not within {_LOOKS * _LOOK_SECONDS:g} s")
        finally:
            if not kept:
                drop(opening, _hang_up)

    def _find(self, guest: Guest, labels: Sequence[str]) -> Target | None:
        try:
            return self._router.find(guest, labels)
        except OSError as fault:
            raise _UnsureError(502, f"the engine of machine {self._machine} does not answer: {fault}") from fault

    def _machines(self) -> list[Path]:
        """Run folders of machines with names, the default machine's first: the order must not depend on the agent."""
        found = [sock.parent for sock in self._run_dir.parent.glob(f"*/{NAMES_SOCK}")]
        return sorted(found, key=lambda place: (place.name != DEFAULT_MACHINE, place.name))

    def _all_names(self) -> list[str]:
        found: list[str] = []
        calls = {place: partial(_names_of, place) for place in self._machines()}
        for _, answer in in_turn(calls, 0.0, _ASK_SECONDS, lambda _: None):
            if answer is not None:
                with contextlib.suppress(OSError, ValueError):
                    found += answer.result()
        return sorted(set(found))

    def _index(self) -> str:
        lines = [self._url(name) for name in self._all_names()]
        return "\n".join(["hostvm: containers that answer here:", *lines])

    def _url(self, name: str) -> str:
        return f"http://{name}.{DOMAIN}/" if self._port == _HTTP else f"http://{name}.{DOMAIN}:{self._port}/"

    # ---- this machine's part

    def _serve_agent(self, listener: LocalListener, sock: socket.socket) -> None:
        guest = self._guest
        assert guest is not None, "started before it listens"
        stream: GuestStream | None = None
        try:
            if not listener.admit(sock):
                sock.close()
                return
            sock.settimeout(_ASK_SECONDS)
            asked = json.loads(_read_line(sock))
            if "labels" not in asked:
                facts = {"held": self._holding()} if "held" in asked else {"names": self._router.names(guest)}
                sock.sendall(json.dumps(facts).encode() + b"\n")
                sock.close()
                return
            try:
                stream, answer = self._own([str(label) for label in asked["labels"]]), {}
            except BadRequestError as error:
                unsure = {"unsure": True} if isinstance(error, _UnsureError) else {}
                answer = {"status": error.status, "why": str(error), **unsure}
            sock.sendall(json.dumps({"found": stream is not None, **answer}).encode() + b"\n")
            sock.settimeout(None)
        except (OSError, ValueError):
            if stream is not None:
                stream.close()  # the asker has gone meanwhile
            sock.close()
            return
        if stream is None:
            sock.close()
        else:
            relay(sock, stream)


class _WatchedSocket:
    """A client's socket whose further requests must stay with its first one's host.

    :param first: what was read of it already: the head that `watch` was made of, and what came with it.
    """

    def __init__(self, sock: socket.socket, watch: RequestWatch, first: bytes) -> None:
        self._socket = sock
        self._watch = watch
        beyond = first[first.index(b"\r\n\r\n") + 4 :]
        passed = watch.feed(beyond)
        self._first = first[: len(first) - len(beyond) + passed]
        self._over = passed < len(beyond)

    def recv(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        if self._over:
            return b""
        data = self._socket.recv(size)
        passed = self._watch.feed(data)
        self._over = passed < len(data)
        return data[:passed]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def _ask_agent(place: Path, labels: Sequence[str]) -> GuestStream | None:
    """A way to another machine's container; None when that machine has none of this name.

    :raises _UnsureError: it cannot tell whether it has.
    :raises BadRequestError: it has, but it does not answer.
    """
    try:
        answer, stream = _talk(place, {"labels": list(labels)}, _ASK_SECONDS)
    except TimeoutError:
        return _silent(place)
    except (OSError, ValueError):
        return None  # an agent that is gone leaves its socket behind
    if answer.get("found"):
        return stream
    stream.close()
    if "status" in answer:
        kind = _UnsureError if answer.get("unsure") else BadRequestError
        raise kind(int(answer["status"]), str(answer["why"]))
    return None


def _silent(place: Path) -> NoReturn:
    raise _UnsureError(502, f"machine {place.name} does not answer")


def _hang_up(stream: GuestStream | None) -> None:
    """Nobody waited for it."""
    if stream is not None:
        stream.close()


def _names_of(place: Path) -> list[str]:
    """:raises OSError, ValueError: it does not answer, or not in our words."""
    answer, stream = _talk(place, {}, _ASK_SECONDS)
    stream.close()
    return [str(name) for name in answer.get("names", [])]


def _holds(place: Path, port: int) -> bool:
    """Whether another machine's agent holds the port; one of before this question was known may."""
    try:
        answer, stream = _talk(place, {"held": True}, _HELD_SECONDS)
    except (OSError, ValueError):
        return False
    stream.close()
    return bool(answer.get("held", port) == port)


def _talk(place: Path, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], LocalStream]:
    sock = connect_local(str(place / NAMES_SOCK), seconds)
    try:
        sock.settimeout(seconds)
        sock.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(_read_line(sock))
        sock.settimeout(None)
    except (OSError, ValueError):
        sock.close()
        raise
    return answer, LocalStream(sock)


def _read_line(sock: socket.socket) -> bytes:
    """One line, byte by byte: what follows it belongs to others."""
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(line) > REQUEST_MOST * 16:
            raise ValueError("the line does not end")
        line += byte
    return line


def _read_head(sock: socket.socket) -> tuple[bytes, Head]:
    """What was read, and the head at its beginning.

    :raises BadRequestError: it is none, too long, or too slow.
    """
    sock.settimeout(_HEAD_SECONDS)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = sock.recv(HEAD_MOST)
        if not more:
            raise ConnectionError("it left")
        data += more
        if data.startswith(_TLS):  # it waits for an answer, and sends no head
            raise BadRequestError(400, "no https here: type http://")
        if len(data) > HEAD_MOST:
            raise BadRequestError(400, "the request's head is too long")
    sock.settimeout(None)
    return data, parse_head(data[: end + 4])


def _answer(sock: socket.socket, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'OK')}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with sock, contextlib.suppress(OSError):
        sock.settimeout(_ASK_SECONDS)
        sock.sendall(head.encode() + body)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(HEAD_MOST):  # a client that still sends would see a reset instead of the answer
            pass


def _listen(port: int) -> list[socket.socket]:
    """The port on both loopbacks; IPv6's only where there is one. Nothing beyond this computer can reach them."""
    listeners = [_bind(socket.AF_INET, "127.0.0.1", port)]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):
            listeners.append(_bind(socket.AF_INET6, "::1", port))
    return listeners


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener
