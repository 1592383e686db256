"""Where the guest's sshfs finds this computer's folders: SFTP on a loopback port.

The guest reaches it at its network's gateway, QEMU's name for the computer's own loopback; not through ssh, so that
nothing is encrypted twice over one machine's memory and a share outlives the agent: sshfs connects again by itself, to
the same port, as soon as the next agent listens. Whoever else connects sees nothing: every path begins with a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from hostvm.agent.accept import accept_from
from hostvm.agent.client import LocalStream
from hostvm.files import write_atomic
from hostvm.paths import SHARE_SERVER_JSON
from hostvm.shares.sftp_server import SftpServer
from hostvm.shares.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostvm.shares.known import Known
    from hostvm.shares.model import Mount

_SECRET_BYTES = 16
_PORTS = range(20000, 32768)
"""Below those that systems give to programs' own connections (Linux from 32768, macOS and Windows from 49152): the port
of a machine that was suspended is free again when it goes on."""

_TRIES = 20
_PAUSE = 0.1


class ShareListener:
    """Serves all sftp shares of one machine. Port and secret are those of the machine's boot, whatever agent runs.

    `kept` tells whether it listens where mounts look that the guest may have already; not so where another program
    has taken that port meanwhile.

    :raises OSError: no port can be had.
    """

    def __init__(self, run_dir: Path, log: Callable[[str], None]) -> None:
        self._log = log
        self._trees: dict[str, Tree] = {}
        self._lock = threading.Lock()
        stored = _stored(run_dir)
        self._secret = stored[1] if stored else secrets.token_hex(_SECRET_BYTES)
        self._socket = _listen(stored[0] if stored else None)
        self.port: int = self._socket.getsockname()[1]
        self.kept = stored is not None and stored[0] == self.port
        if stored is not None and not self.kept:
            log(f"shares: another program has port {stored[0]}; containers see their folders after `docker restart`")
        facts = {"port": self.port, "secret": self._secret}
        write_atomic(run_dir / SHARE_SERVER_JSON, json.dumps(facts).encode())
        accept_from(self._socket, self._serve, "shares")

    def offer(self, mount: Mount) -> str:
        """Serve a folder; gives the path by which the guest asks for it. One that is served goes on undisturbed.

        :raises OSError: it cannot be opened.
        """
        name = self._name(mount)
        with self._lock:
            there = self._trees.get(name)
        if there is not None and there.is_current():
            return f"/{name}"
        tree = Tree(mount.source, readonly=mount.readonly)
        with self._lock:
            before, self._trees[name] = self._trees.get(name), tree
            if before is not None:
                tree.known = before.known  # the guest's mount is the same still, and what it was told
        if before is not None:
            before.close()
        return f"/{name}"

    def written(self) -> list[str]:
        """Files of this computer that the guest has open for writing."""
        with self._lock:
            trees = list(self._trees.values())
        return sorted(path for tree in trees for path in tree.known.written())

    def known(self, mount: Mount) -> Known | None:
        """What the guest knows of a folder that is offered."""
        with self._lock:
            tree = self._trees.get(self._name(mount))
        return tree.known if tree is not None else None

    def withdraw(self, mount: Mount) -> None:
        """Serve it no more. Idempotent."""
        with self._lock:
            tree = self._trees.pop(self._name(mount), None)
        if tree is not None:
            tree.close()

    def _name(self, mount: Mount) -> str:
        # A share that is added anew at the same place has the same name, so that a mount that is left finds it.
        words = f"{self._secret}\0{mount.source}\0{mount.target}\0{mount.readonly}"
        return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()

    def _find(self, name: str) -> Tree:
        with self._lock:
            return self._trees[name]

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            SftpServer(LocalStream(connection), self._find).run()
        except Exception as error:  # noqa: BLE001 - one client's request must not end the agent
            self._log(f"shares: a connection ended: {type(error).__name__}: {error}")
            connection.close()


def _stored(run_dir: Path) -> tuple[int, str] | None:
    try:
        facts = json.loads((run_dir / SHARE_SERVER_JSON).read_text(encoding="utf-8"))
        return int(facts["port"]), str(facts["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listen(port: int | None) -> socket.socket:
    """At the port of this boot, which may be in use for some moments more; else at another one."""
    for wanted in [port] * _TRIES if port else random.sample(_PORTS, _TRIES):
        try:
            return socket.create_server(("127.0.0.1", wanted), backlog=64)
        except OSError:
            if port:
                time.sleep(_PAUSE)
    return socket.create_server(("127.0.0.1", 0), backlog=64)
