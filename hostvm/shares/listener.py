"""Where the guest finds this computer's folders: SFTP and NFS on one loopback port.

The guest reaches it at its network's gateway, QEMU's name for the computer's own loopback; not through ssh, so that
nothing is encrypted twice over one machine's memory and a share outlives the agent: the guest connects again by itself,
to the same port, as soon as the next agent listens. Whoever else connects sees nothing: by SFTP every path begins with
a secret, by NFS the guest's kernel names one with each call.
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
from functools import partial
from typing import TYPE_CHECKING

from hostvm.agent.accept import accept_from
from hostvm.agent.client import LocalStream
from hostvm.files import write_atomic
from hostvm.paths import SHARE_PLACES, SHARE_SERVER_JSON
from hostvm.shares.nfs.exports import Export, token_of
from hostvm.shares.nfs.places import PlaceStore
from hostvm.shares.nfs.server import NfsServer
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

_RPC = b"\x80"
"""A call of NFS begins with the mark of a last piece, a packet of SFTP with a length that is below it."""

_SILENT_SECONDS = 30.0
"""Both kinds of clients speak first, and at once; any container can connect, and say nothing."""

_TRIES = 20
_PAUSE = 0.1


class ShareListener:
    """Serves all sftp and nfs shares of one machine, at the port and by the secret of its boot, whatever agent runs.

    :param places: where it keeps what files' numbers mean; default: in `run_dir`.

    `kept` tells whether it listens where mounts look that the guest may have already; not so where another program
    has taken that port meanwhile.

    :raises OSError: no port can be had.
    """

    def __init__(self, run_dir: Path, log: Callable[[str], None], places: Path | None = None) -> None:
        self._log = log
        self._trees: dict[str, Tree] = {}
        self._exports: dict[bytes, Export] = {}
        self._asked: dict[str, set[socket.socket]] = {}
        self._places = places or run_dir / SHARE_PLACES
        self._complete = False
        self._nfs: NfsServer | None = None
        self._store: PlaceStore | None = None
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

    def offer(self, mount: Mount, unlinked: str = "") -> str:
        """Serve a folder; gives the path by which the guest asks for it. One that is served goes on undisturbed.

        :param unlinked: as of `Tree`.
        :raises OSError: it cannot be opened.
        """
        name = self._name(mount)
        with self._lock:
            there = self._trees.get(name)
        if there is not None and there.is_current():
            return f"/{name}"
        tree = Tree(mount.source, readonly=mount.readonly, unlinked=unlinked)
        with self._lock:
            before, self._trees[name] = self._trees.get(name), tree
            export = self._exports.pop(token_of(name), None)
            if before is not None:
                tree.known = before.known  # the guest's mount is the same still, and what it was told
        self._let_go(export)
        if before is not None:
            before.close()
        return f"/{name}"

    def serves(self, mount: Mount) -> bool:
        """Whether a folder that is offered is the one that is at its path; True for one that is not offered."""
        with self._lock:
            tree = self._trees.get(self._name(mount))
        return tree is None or tree.is_current()

    @property
    def client(self) -> str:
        """What the guest's kernel calls itself when it asks for folders by NFS: without it, nothing is answered.

        A container can read a file's handle, and the path of what is mounted, but not this.
        """
        return hashlib.sha256(f"{self._secret}\0client".encode()).hexdigest()[:32]

    def export_path(self, mount: Mount) -> str:
        """The path by which the guest's kernel mounts an offered folder; containers see it in their /proc/mounts."""
        return f"/{token_of(self._name(mount)).hex()}"

    def complete(self) -> None:
        """All shares are offered that can be: what a guest asks for besides is gone."""
        self._complete = True
        self._server().complete()

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

    def given_alone(self, paths: frozenset[str]) -> None:
        """Files of this computer that running containers have by themselves, and no others are."""
        with self._lock:
            for tree in self._trees.values():
                tree.known.alone = paths

    def withdraw(self, mount: Mount) -> None:
        """Serve it no more, nor what is open of it. Idempotent."""
        with self._lock:
            name = self._name(mount)
            tree, export = self._trees.pop(name, None), self._exports.pop(token_of(name), None)
            for connection in self._asked.pop(name, ()):  # each sshfs has one of its own, for one share
                # Its own thread closes what is open: a number that is closed by another could be read as the next file.
                with contextlib.suppress(OSError):  # it is at its end
                    connection.shutdown(socket.SHUT_RDWR)
        self._let_go(export)
        if tree is not None:
            tree.close()

    def end(self) -> None:
        """Write down what the next agent goes on with; this process is about to end, and serves until then."""
        with self._lock:
            store, nfs = self._store, self._nfs
        if nfs is not None:
            nfs.end()
        if store is not None:
            store.write()

    def _name(self, mount: Mount) -> str:
        # A share that is added anew at the same place has the same name, so that a mount that is left finds it.
        words = f"{self._secret}\0{mount.source}\0{mount.target}\0{mount.readonly}"
        return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()

    def _find(self, name: str, asked_by: socket.socket | None = None) -> Tree:
        """:raises KeyError: no share is called that."""
        with self._lock:
            tree = self._trees[name]
            if asked_by is not None:
                self._asked.setdefault(name, set()).add(asked_by)
            return tree

    def _let_go(self, export: Export | None) -> None:
        """Without the lock, which the server takes while it has its own."""
        if export is not None:
            self._server().let_go(export)

    def _export(self, token: bytes) -> Export:
        """:raises KeyError: no share has it."""
        with self._lock:
            if (known := self._exports.get(token)) is not None:
                return known
            name = next((name for name in self._trees if token_of(name) == token), "")
            tree = self._trees[name]
            if self._store is None:
                self._store = PlaceStore(self._places)
            made = self._exports[token] = Export(tree, name, self._store)
            return made

    def _all_exports(self) -> list[Export]:
        with self._lock:
            return list(self._exports.values())

    def _server(self) -> NfsServer:
        with self._lock:
            if self._nfs is None:
                self._nfs = NfsServer(self.client, self._export, self._all_exports, self._log)
                if self._complete:
                    self._nfs.complete()
            return self._nfs

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_SILENT_SECONDS)
            first = connection.recv(1, socket.MSG_PEEK)
            connection.settimeout(None)
            if first >= _RPC:
                self._server().run(LocalStream(connection))
            else:
                SftpServer(LocalStream(connection), partial(self._find, asked_by=connection)).run()
        except OSError:
            connection.close()
        except Exception as error:  # noqa: BLE001 - one client's request must not end the agent
            self._log(f"shares: a connection ended: {type(error).__name__}: {error}")
            connection.close()
        finally:
            with self._lock:
                for connections in self._asked.values():
                    connections.discard(connection)


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
