"""Calls and answers: on a stream, to another program, twice, and what is none at all."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import struct
import sys
import threading

import pytest
from waiting import until  # a helper of all unit tests

from hostvm.agent.client import LocalStream
from hostvm.paths import SHARE_PLACES
from hostvm.shares.listener import ShareListener
from hostvm.shares.model import Mount
from hostvm.shares.nfs import rpc, wire
from hostvm.shares.nfs.xdr import Reader, u32, u64
from hostvm.shares.sftp_wire import F_READ, INIT, LSTAT, OPEN, READ, STATUS, string

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

ACCES = 13


@pytest.mark.parametrize(
    ("program", "version", "procedure", "state"),
    [
        (wire.NFS, 3, wire.NULL, rpc.SUCCESS),
        (wire.MOUNT, 3, wire.MOUNT_NULL, rpc.SUCCESS),
        (100000, 3, 0, rpc.UNKNOWN_PROGRAM),
        (0, 0, 0, rpc.UNKNOWN_PROGRAM),
        (wire.NFS, 4, 0, rpc.UNKNOWN_VERSION),
        (wire.MOUNT, 1, 0, rpc.UNKNOWN_VERSION),
        (wire.NFS, 3, 22, rpc.UNKNOWN_PROCEDURE),
        (wire.NFS, 3, 2**32 - 1, rpc.UNKNOWN_PROCEDURE),
        (wire.MOUNT, 3, 99, rpc.UNKNOWN_PROCEDURE),
    ],
)
def test_what_is_not_served_is_said_so(guest, program, version, procedure, state):
    found, reader = guest.reply(procedure, program=program, version=version)
    assert found == state
    if state == rpc.UNKNOWN_VERSION:
        assert (reader.u32(), reader.u32()) == (3, 3)


@pytest.mark.parametrize("procedure", range(wire.GETATTR, wire.COMMIT + 1))
@pytest.mark.parametrize(
    "words", [b"", b"\0", b"\xff\xff\xff\xff", u32(65) + bytes(65), u32(24) + bytes(20)], ids=range(5)
)
def test_garbage_is_told_as_such(guest, procedure, words):
    assert guest.reply(procedure, words)[0] == rpc.GARBAGE


def test_arguments_that_end_too_early_are_garbage(guest, folder, xdr):
    root, name = xdr.text(guest.root), xdr.text("f")
    for procedure, words in (
        (wire.LOOKUP, (root,)),
        (wire.LOOKUP, (root, u32(5000) + bytes(5000))),
        (wire.READ, (root, u64(0))),
        (wire.WRITE, (root, u64(0), u32(9), u32(0), u32(9), b"short")),
        (wire.CREATE, (root, name, u32(wire.GUARDED), xdr.wish()[:-1])),
        (wire.CREATE, (root, name, u32(wire.EXCLUSIVE), b"short")),
        (wire.SETATTR, (root, xdr.wish())),
        (wire.RENAME, (root, name, root)),
    ):
        assert guest.reply(procedure, *words)[0] == rpc.GARBAGE, procedure
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        struct.pack(">3I", 1, 1, 2),
        struct.pack(">3I", 1, 0, 3) + bytes(90),
        struct.pack(">8I", 1, 0, 2, wire.NFS, 3, wire.NULL, 1, 404) + bytes(412),
        struct.pack(">8I", 1, 0, 2, wire.NFS, 3, wire.NULL, 1, 40) + bytes(20),
    ],
    ids=range(6),
)
def test_what_is_no_call_ends_the_connection(guest, data):
    with pytest.raises(rpc.RpcError):
        guest.server.answer(memoryview(data), print)


def test_a_caller_that_says_nothing_of_itself_is_root(guest, xdr):
    head = struct.pack(">10I", 1, 0, 2, wire.NFS, 3, wire.GETATTR, 0, 0, 0, 0)
    call = rpc.parse_call(memoryview(head))
    assert (call.user, call.group) == (0, 0)
    assert call.machine == ""
    assert guest.server.answer(memoryview(head + xdr.text(guest.root)), print) == rpc.denial(1)


# ---- an answer that was lost


def test_a_removal_whose_answer_was_lost_is_not_done_again(guest, folder, xdr):
    (folder / "f").touch()
    words = (wire.REMOVE, xdr.text(guest.root), xdr.text("f"))
    first = guest.send(*words, number=70)
    (folder / "f").write_text("made again")
    assert guest.send(*words, number=70) == first
    assert (folder / "f").exists()
    assert guest.status(*words) == wire.OK
    assert not (folder / "f").exists()
    assert guest.send(*words, number=70) == first


def test_a_rename_whose_answer_was_lost_is_not_done_again(guest, folder, xdr):
    (folder / "a").write_text("first")
    words = (wire.RENAME, *map(xdr.text, (guest.root, "a", guest.root, "b")))
    first = guest.send(*words, number=70)
    (folder / "a").write_text("second")
    assert guest.send(*words, number=70) == first
    assert [(folder / name).read_text() for name in "ab"] == ["second", "first"]


def test_a_file_whose_making_was_not_heard_of_is_made_once(guest, folder, xdr):
    words = (wire.CREATE, xdr.text(guest.root), xdr.text("f"), u32(wire.GUARDED), xdr.wish(mode=0o600, size=0))
    first = guest.send(*words, number=70)
    (folder / "f").write_text("content")
    assert first[24:28] == bytes(4)
    assert guest.send(*words, number=70) == first
    assert (folder / "f").read_text() == "content"
    other = (wire.MKDIR, xdr.text(guest.root), xdr.text("d"), xdr.wish())
    assert guest.send(*other, number=70)[24:28] == bytes(4), "another procedure is another call"


def test_a_refusal_whose_answer_was_lost_stays_one(guest, folder, xdr):
    words = (wire.REMOVE, xdr.text(guest.root), xdr.text("f"))
    first = guest.send(*words, number=70)
    (folder / "f").touch()
    assert guest.send(*words, number=70) == first
    assert (folder / "f").exists()


def test_what_is_only_read_is_read_again(guest, folder, xdr):
    handle = guest.create("f")
    sizes = []
    for content in ("", "four"):
        (folder / "f").write_text(content)
        answer = guest.send(wire.GETATTR, xdr.text(handle), number=70)
        sizes.append(xdr.attributes(Reader(memoryview(answer)[28:])).size)
    assert sizes == [0, 4]


# ---- on a stream


@pytest.fixture
def stream(guest):
    ours, theirs = socket.socketpair()
    served = threading.Thread(target=guest.server.run, args=(LocalStream(theirs),))
    served.start()
    ours.settimeout(20)
    yield ours
    ours.close()
    served.join(20)
    assert not served.is_alive()


def answers(stream, wanted):
    """By their calls' numbers."""
    found, file = {}, stream.makefile("rb")
    while len(found) < wanted:
        mark = struct.unpack(">I", file.read(4))[0]
        assert mark & 0x80000000
        body = file.read(mark & 0x7FFFFFFF)
        found[struct.unpack_from(">I", body)[0]] = body
    return found


def pieces(data, *sizes):
    """A record in pieces of so many bytes, and what is left."""
    found = b""
    for size in sizes:
        found += u32(size) + data[:size]
        data = data[size:]
    return found + u32(0x80000000 | len(data)) + data


def test_calls_that_come_byte_by_byte(guest, stream, xdr):
    for byte in rpc.record(guest.record(wire.GETATTR, xdr.text(guest.root), number=5)):
        stream.sendall(bytes([byte]))
    assert answers(stream, 1)[5][24:32] == u32(0) + u32(2)


def test_several_calls_at_once(guest, stream, xdr):
    words = [guest.record(wire.GETATTR, xdr.text(guest.root), number=number) for number in range(20)]
    whole = b"".join(map(rpc.record, words))
    stream.sendall(whole[:-3])
    assert sorted(answers(stream, 19)) == list(range(19))
    stream.sendall(whole[-3:])
    assert answers(stream, 1)[19][24:28] == bytes(4)


@pytest.mark.parametrize("sizes", [(4,), (1, 2, 3), (40, 20), (0x40,)])
def test_a_call_in_several_pieces(guest, stream, xdr, sizes):
    whole = guest.record(wire.GETATTR, xdr.text(guest.root), number=5)
    stream.sendall(pieces(whole, *sizes) + rpc.record(guest.record(wire.NULL, number=6)))
    found = answers(stream, 2)
    assert found[5][24:32] == u32(0) + u32(2)
    assert len(found[6]) == 24


def test_the_largest_write_and_read(guest, stream, xdr, folder):
    data = bytes(range(256)) * 4096
    handle = guest.create("f")
    words = (xdr.text(handle), u64(0), u32(len(data)), u32(wire.UNSTABLE), xdr.text(data))
    stream.sendall(rpc.record(guest.record(wire.WRITE, *words, number=5)))
    assert answers(stream, 1)[5][24:28] == bytes(4)
    assert (folder / "f").read_bytes() == data
    stream.sendall(rpc.record(guest.record(wire.READ, xdr.text(handle), u64(0), u32(2**32 - 1), number=6)))
    assert answers(stream, 1)[6].endswith(u32(1) + u32(len(data)) + data)


def test_an_answer_that_comes_later_is_a_record_too(guest, stream, xdr, folder):
    (folder / "old").touch()
    words = (xdr.text(guest.lookup("old")), u64(0), u32(0))
    stream.sendall(rpc.record(guest.record(wire.COMMIT, *words, number=5)))
    stream.sendall(rpc.record(guest.record(wire.NULL, number=6)))
    found = answers(stream, 2)
    assert (found[5][24:28], found[6][24:]) == (bytes(4), b"")


@pytest.mark.parametrize(
    "data",
    [
        u32(0x80000000 | rpc.RECORD_MOST + 1),
        u32(rpc.RECORD_MOST) + bytes(rpc.RECORD_MOST) + u32(0x80000001),
        u32(0) * 3,
        rpc.record(b"no call"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["too large", "too large in pieces", "empty pieces", "no call", "HTTP"],
)
def test_what_no_guest_sends_ends_the_connection(stream, data):
    stream.sendall(data)
    assert stream.recv(1) == b""


# ---- behind the port


class Connection(socket.socket):
    """One of a pair, which has no TCP below it."""

    def setsockopt(self, *words):
        pass


@pytest.fixture
def connect(tmp_path, folder):
    """A connection to the port, and the listener behind."""
    said = []
    listener = ShareListener(tmp_path, said.append)
    mount = Mount(str(folder), "/w", False)
    path = listener.offer(mount)
    opened = []

    def make():
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        there = Connection(fileno=theirs.detach())
        served = threading.Thread(target=listener._serve, args=(there,))
        served.start()
        opened.append((ours, served))
        return ours

    make.path = listener.export_path(mount)
    make.client = listener.client
    make.complete, make.end = listener.complete, listener.end
    make.sftp_path = path
    make.withdraw = lambda: listener.withdraw(mount)
    yield make
    for ours, served in opened:
        ours.close()
        served.join(20)
        assert not served.is_alive()
    listener.withdraw(mount)
    listener.end()
    listener._socket.close()
    assert said == []


def mount(guest, stream, path, xdr, **named):
    stream.sendall(rpc.record(guest.record(wire.MOUNT_MNT, xdr.text(path), program=wire.MOUNT, number=5, **named)))
    reader = Reader(memoryview(answers(stream, 1)[5])[24:])
    status = reader.u32()
    return status, bytes(reader.opaque(64)) if status == wire.OK else b""


def test_both_kinds_of_servers_are_behind_one_port(guest, connect):
    sftp, nfs = connect(), connect()
    sftp.sendall(struct.pack(">IBI", 5, INIT, 3))
    assert sftp.recv(5)[4:] == b"\x02"
    nfs.sendall(rpc.record(guest.record(wire.NULL, number=5)))
    assert answers(nfs, 1)[5] == rpc.reply(5, rpc.SUCCESS)
    silent = connect()
    silent.shutdown(socket.SHUT_WR)
    assert silent.recv(1) == b""


def test_who_connects_and_says_nothing_is_left(connect, monkeypatch):
    monkeypatch.setattr("hostvm.shares.listener._SILENT_SECONDS", 0.05)
    assert connect().recv(1) == b""


def test_who_has_spoken_may_be_silent(guest, connect, monkeypatch):
    monkeypatch.setattr("hostvm.shares.listener._SILENT_SECONDS", 0.05)
    nfs = connect()
    for number in (5, 6):
        nfs.sendall(rpc.record(guest.record(wire.NULL, number=number)))
        assert answers(nfs, 1)[number] == rpc.reply(number, rpc.SUCCESS)
        threading.Event().wait(0.2)  # longer than who says nothing has


def test_only_the_guests_kernel_is_answered(guest, connect, xdr, folder):
    """A container can read a mount's path and its files' handles, but not what the kernel calls itself."""
    stream = connect()
    status, root = mount(guest, stream, connect.path, xdr, machine=connect.client)
    assert status == wire.OK
    assert connect.sftp_path.lstrip("/")[:16] not in root.hex() + connect.path
    (folder / "f").touch()
    for machine in ("", "guest", connect.client[:-1], connect.path):
        for words in (
            guest.record(wire.MOUNT_MNT, xdr.text(connect.path), program=wire.MOUNT, number=6, machine=machine),
            guest.record(wire.LOOKUP, xdr.text(root), xdr.text("f"), number=6, machine=machine),
        ):
            stream.sendall(rpc.record(words))
            assert answers(stream, 1)[6] == rpc.denial(6)
    for path in (connect.sftp_path, "/", "", "/../..", "/00"):
        assert mount(guest, stream, path, xdr, machine=connect.client) == (ACCES, b"")
    stream.sendall(
        rpc.record(guest.record(wire.LOOKUP, xdr.text(root), xdr.text("f"), number=6, machine=connect.client))
    )
    assert answers(stream, 1)[6][24:28] == bytes(4)
    assert mount(guest, connect(), connect.path, xdr, machine=connect.client) == (wire.OK, root), "the same folder"


def test_what_an_older_connection_still_holds_is_not_done(guest, connect, xdr, folder):
    """The guest has sent it again by the newer one."""
    older, newer = connect(), connect()
    root = mount(guest, older, connect.path, xdr, machine=connect.client)[1]
    look = guest.record(wire.GETATTR, xdr.text(root), number=7, machine=connect.client)
    for stream in (older, newer):
        stream.sendall(rpc.record(look))
        assert answers(stream, 1)[7][24:28] == bytes(4)
    words = (xdr.text(root), xdr.text("made"), xdr.wish(mode=0o755))
    older.sendall(rpc.record(guest.record(wire.MKDIR, *words, number=8, machine=connect.client)))
    assert older.recv(1) == b""
    assert not (folder / "made").exists()


def test_at_an_agents_end_the_next_one_has_all_places_and_the_guest_is_served_on(
    guest, connect, xdr, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("hostvm.shares.nfs.places._WRITE_SECONDS", 600)
    (folder / "f").touch()
    stream = connect()
    root = mount(guest, stream, connect.path, xdr, machine=connect.client)[1]

    def look(number):
        words = (xdr.text(root), xdr.text("f"))
        stream.sendall(rpc.record(guest.record(wire.LOOKUP, *words, number=number, machine=connect.client)))
        return answers(stream, 1)[number][24:28]

    assert look(6) == bytes(4)
    connect.end()
    base = sqlite3.connect(tmp_path / SHARE_PLACES)
    assert base.execute("SELECT name FROM place").fetchall() == [(b"f",)]
    base.close()
    assert look(7) == bytes(4)


def test_a_folder_that_is_withdrawn_is_stale_and_not_mounted(guest, connect, xdr):
    stream = connect()
    root = mount(guest, stream, connect.path, xdr, machine=connect.client)[1]
    connect.withdraw()
    for number, status in ((5, wire.JUKEBOX), (6, wire.STALE)):
        # Before all are offered nothing is gone: the guest's kernel would never ask again.
        stream.sendall(rpc.record(guest.record(wire.GETATTR, xdr.text(root), number=number, machine=connect.client)))
        assert answers(stream, 1)[number][24:28] == u32(status)
        connect.complete()
    assert mount(guest, stream, connect.path, xdr, machine=connect.client) == (ACCES, b"")


def test_what_is_open_by_sftp_of_a_folder_that_is_withdrawn_is_closed(connect, folder):
    (folder / "f").write_text("content")
    path = string(f"{connect.sftp_path}/f".encode())

    def ask(stream, kind, *words):
        packet = b"".join((bytes([kind]), *words))
        stream.sendall(u32(len(packet)) + packet)
        return stream.recv(4096)

    def is_open():
        for number in range(1024):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(number), (folder / "f").stat()):
                    return True
        return False

    sftp, other = connect(), connect()
    ask(sftp, INIT, u32(3))
    ask(other, INIT, u32(3))
    handle = ask(sftp, OPEN, u32(7), path, u32(F_READ), u32(0))[9:]
    assert ask(sftp, READ, u32(8), handle, u64(0), u32(100)).endswith(b"content")
    assert is_open()
    connect.withdraw()
    assert sftp.recv(1) == b""
    until(lambda: not is_open())
    assert ask(other, LSTAT, u32(9), path)[4] == STATUS, "who has nothing of it goes on"
