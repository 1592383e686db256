"""Our SFTP server with a client that asks it packet by packet; what the agent shares, with a guest that is a table."""

from __future__ import annotations

import os
import queue
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # a helper lies beside the tests
from share_rig import GATEWAY, Guest, Host, close

from hostvm.shares import sftp_wire as wire
from hostvm.shares.service import ShareService
from hostvm.shares.sftp_server import SftpServer
from hostvm.shares.tree import Tree


class Ended:
    """A stream whose other end is gone."""

    def recv(self, size: int) -> bytes:
        return b""

    def close(self) -> None:
        pass


class Later:
    """A stream for the answers that come by themselves."""

    def __init__(self) -> None:
        self.sent: queue.Queue[bytes] = queue.Queue()
        self.sendall = self.sent.put


class Client:
    """Speaks to a server without a stream between."""

    def __init__(self, tree: Tree) -> None:
        self.later = Later()
        self.server = SftpServer(self.later, {"tok": tree}.__getitem__)

    def ask(self, kind: int, *fields: bytes | str | int) -> tuple[int, bytes]:
        body = b"".join(
            field
            if isinstance(field, bytes)
            else struct.pack(">I", field)
            if isinstance(field, int)
            else wire.string(os.fsencode(field))
            for field in fields
        )
        answer = self.server.answer(memoryview(bytes([kind]) + struct.pack(">I", 7) + body))
        answer = answer or self.later.sent.get(timeout=20)
        length, answered, number = struct.unpack_from(">IBI", answer)
        assert (length, number) == (len(answer) - 4, 7)
        return answered, answer[9:]

    def status(self, kind: int, *fields: bytes | str | int) -> int:
        answered, body = self.ask(kind, *fields)
        assert answered == wire.STATUS, (answered, body)
        return struct.unpack_from(">I", body)[0]

    def open(self, path: str, flags: int, mode: int = 0o644) -> bytes:
        answered, body = self.ask(wire.OPEN, path, flags, wire.A_MODE, mode)
        assert answered == wire.HANDLE, body
        return body

    def leave(self) -> None:
        """As when the connection ends."""
        self.server._stream = Ended()
        self.server.run()

    def mode(self, path: str) -> int:
        answered, body = self.ask(wire.LSTAT, path)
        assert answered == wire.ATTRS, body
        return struct.unpack_from(">IQIII", body)[4]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "share"


@pytest.fixture
def client(folder):
    tree = Tree(str(folder))
    yield Client(tree)
    tree.close()


@pytest.fixture
def client_of():
    """Of a tree of the test's own."""
    return Client


@pytest.fixture
def guest():
    return Guest()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def service(tmp_path):
    made = []

    def make(*mounts):
        made.append(ShareService(mounts, tmp_path, GATEWAY))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        close(one)


@pytest.fixture
def folders(tmp_path):
    made = {name: tmp_path / name for name in ("outer", "outer/inner", "other")}
    for folder in made.values():
        folder.mkdir()
    return {name.rpartition("/")[2]: str(folder) for name, folder in made.items()}
