"""Our NFS server with a client that asks it call by call."""

from __future__ import annotations

import queue
import struct
from itertools import count
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from hostvm.shares.fields import encode
from hostvm.shares.nfs import wire
from hostvm.shares.nfs.exports import Export
from hostvm.shares.nfs.places import ROOT, Places, PlaceStore
from hostvm.shares.nfs.server import NfsServer
from hostvm.shares.nfs.xdr import Reader, opaque, u32, u64
from hostvm.shares.tree import Tree

NAME = "5a" * 32
"""The share's secret name."""

CLIENT = "c" * 32
"""What the guest's kernel calls itself."""


class Attributes(NamedTuple):
    """`fattr3`."""

    kind: int
    mode: int
    links: int
    user: int
    group: int
    size: int
    used: int
    device: tuple[int, int]
    system: int
    number: int
    accessed: int
    modified: int
    changed: int


def attributes(reader):
    words = struct.unpack(">5I2Q2I2Q6I", reader.fixed(84))
    times = [words[at] * 10**9 + words[at + 1] for at in (11, 13, 15)]
    return Attributes(*words[:7], words[7:9], *words[9:11], *times)


def maybe(reader):
    """`post_op_attr`."""
    return attributes(reader) if reader.u32() else None


def wish(mode=None, user=None, group=None, size=None, accessed=None, modified=None):
    """`sattr3`; times are ns, or True for the server's own."""
    words = [u32(0) if one is None else u32(1) + u32(one) for one in (mode, user, group)]
    words.append(u32(0) if size is None else u32(1) + u64(size))
    for one in (accessed, modified):
        if one is None or one is True:
            words.append(u32(int(one is True)))
        else:
            words.append(u32(2) + u32(one // 10**9) + u32(one % 10**9))
    return b"".join(words)


def text(name):
    return opaque(encode(name) if isinstance(name, str) else name)


class Guest:
    """Speaks to a server without a stream between."""

    def __init__(self, *exports):
        self.exports = {export.token: export for export in exports}
        self.later = queue.Queue()
        self.groups = ()
        self.numbers = count(1)
        self.log = []
        self.server = NfsServer(CLIENT, self.exports.__getitem__, lambda: list(exports), self.log.append)
        self.server.complete()
        self.root = exports[0].handle(ROOT)

    def record(self, procedure, *words, who=(0, 0), groups=None, number=7, program=wire.NFS, version=3, machine=CLIENT):
        """A call as it is in a record."""
        groups = self.groups if groups is None else groups
        caller = b"".join((u32(0), text(machine), *map(u32, (*who, len(groups), *groups))))
        head = struct.pack(">6I", number, 0, 2, program, version, procedure)
        return b"".join((head, u32(1), opaque(caller), u32(0), u32(0), *words))

    def send(self, procedure, *words, **named):
        """The answer as bytes, whoever gives it; not waited for after `send`: None."""
        named.setdefault("number", next(self.numbers))
        return self.server.answer(memoryview(self.record(procedure, *words, **named)), self.later.put)

    def reply(self, procedure, *words, **named):
        """How the call went, and what follows."""
        answer = self.send(procedure, *words, **named)
        reader = Reader(memoryview(answer or self.later.get(timeout=20)))
        reader.u32()
        assert (reader.u32(), reader.u32(), reader.u32(), reader.u32()) == (1, 0, 0, 0)
        return reader.u32(), reader

    def ask(self, procedure, *words, **named):
        """The status of NFS, and what follows."""
        state, reader = self.reply(procedure, *words, **named)
        assert state == 0
        return reader.u32(), reader

    def status(self, procedure, *words, **named):
        return self.ask(procedure, *words, **named)[0]

    def well(self, procedure, *words, **named):
        status, reader = self.ask(procedure, *words, **named)
        assert status == wire.OK
        return reader

    def attributes(self, handle):
        return attributes(self.well(wire.GETATTR, text(handle)))

    def lookup(self, name, folder=None):
        """A handle; of a path, name by name."""
        handle = folder or self.root
        for one in name.split("/"):
            handle = bytes(self.well(wire.LOOKUP, text(handle), text(one)).opaque(64))
        return handle

    def make(self, procedure, name, *words, folder=None, **named):
        """The handle of what was made."""
        reader = self.well(procedure, text(folder or self.root), text(name), *words, **named)
        assert reader.u32() == 1
        return bytes(reader.opaque(64))

    def create(self, name, mode=0o644, folder=None, **named):
        return self.make(wire.CREATE, name, u32(wire.GUARDED), wish(mode=mode), folder=folder, **named)

    def write(self, handle, data, offset=0, how=wire.UNSTABLE):
        """How it was written."""
        reader = self.well(wire.WRITE, text(handle), u64(offset), u32(len(data)), u32(how), text(data))
        told(reader)
        assert reader.u32() == len(data)
        return reader.u32()

    def read(self, handle, length=1 << 20, offset=0):
        """Content, and whether it ends there."""
        reader = self.well(wire.READ, text(handle), u64(offset), u32(length))
        maybe(reader)
        length, ended = reader.u32(), bool(reader.u32())
        data = bytes(reader.opaque(wire.LARGEST))
        assert length == len(data)
        return data, ended

    def commit(self, handle):
        return self.status(wire.COMMIT, text(handle), u64(0), u32(0))

    def link(self, handle, name, folder=None):
        """How a second name is given to a file."""
        return self.status(wire.LINK, text(handle), text(folder or self.root), text(name))

    def remove(self, name, folder=None, procedure=wire.REMOVE):
        return self.status(procedure, text(folder or self.root), text(name))

    def rename(self, old, new, folder=None, other=None):
        words = (folder or self.root, old, other or folder or self.root, new)
        return self.status(wire.RENAME, *map(text, words))

    def piece(self, folder, cookie=0, most=4096, *, plus=False):
        """A folder's names with their cookies, numbers and handles, whether it ends there, and how long it is."""
        procedure = wire.READDIRPLUS if plus else wire.READDIR
        answer = self.send(procedure, text(folder), u64(cookie), bytes(8), *[u32(most)] * (1 + plus))
        reader = Reader(memoryview(answer)[24:])
        assert reader.u32() == wire.OK
        maybe(reader)
        reader.fixed(8)
        found = []
        while reader.u32():
            number, name, at = reader.u64(), reader.text(255), reader.u64()
            seen = maybe(reader) if plus else None
            handle = bytes(reader.opaque(64)) if plus and reader.u32() else None
            found.append((name, at, number, seen, handle))
        return found, bool(reader.u32()), len(answer) - 24


def told(reader):
    """`wcc_data`: size and times before, attributes after."""
    before = None
    if reader.u32():
        size, *times = struct.unpack(">Q4I", reader.fixed(24))
        before = (size, times[0] * 10**9 + times[1], times[2] * 10**9 + times[3])
    return before, maybe(reader)


class Shares:
    """Makes what a server gives out, and lets go of it."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "places.db"
        self.stores, self.trees, self.guests = [], [], []

    def store(self, path=None):
        self.stores.append(PlaceStore(path or self.path))
        return self.stores[-1]

    def export(self, folder, store=None, name=NAME, *, readonly=False):
        self.trees.append(Tree(str(folder), readonly=readonly))
        return Export(self.trees[-1], name, store or self.store())

    def guest(self, folder, store=None, **named):
        made = Guest(self.export(folder, store, **named))
        self.guests.append(made)
        return made

    def end(self, store):
        """As when the agent ends; what it is about to write is written."""
        if (writer := store._writer) is not None:
            writer.cancel()
        store.write()
        store._base.close()

    def close(self):
        for guest in self.guests:
            if guest.server._sweeper is not None:
                guest.server._sweeper.cancel()
            for export in guest.exports.values():
                guest.server.let_go(export)
            guest.server._lasting.drain()
        for store in self.stores:
            self.end(store)
        for tree in self.trees:
            tree.close()


@pytest.fixture
def shares(tmp_path):
    made = Shares(tmp_path)
    yield made
    made.close()


@pytest.fixture
def guest(shares, folder):
    return shares.guest(folder)


@pytest.fixture
def known(guest):
    return next(iter(guest.exports.values())).tree.known


@pytest.fixture
def xdr():
    """How calls are written and answers are read."""
    return SimpleNamespace(wish=wish, text=text, maybe=maybe, told=told, attributes=attributes)


@pytest.fixture
def nothing_is_searched(monkeypatch):
    monkeypatch.setattr(Places, "_search", lambda *_: None)
