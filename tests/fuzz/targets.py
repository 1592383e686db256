"""What a guest or a network peer may send, and the parsers that read it: bytes in, an orderly end or a finding.

Each target takes any bytes and returns; the errors that its parser is documented to raise are part of that. Anything
else (another exception, a hang, memory without bound) is a fault of ours.
"""

from __future__ import annotations

import contextlib
import io
import socket
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.agent import protocol
from hostvm.console import EngineTrouble, panics
from hostvm.drivers.hostfwd import parse_usernet
from hostvm.drivers.qemu.qmp import Qmp
from hostvm.errors import HostvmError
from hostvm.http_wire import BadRequestError
from hostvm.names.http import RequestWatch, labels_of, parse_head
from hostvm.net.lookup import Lookup
from hostvm.shares.fields import WireError, encode
from hostvm.shares.nfs.exports import Export, token_of
from hostvm.shares.nfs.places import ROOT, PlaceStore, number_of
from hostvm.shares.nfs.server import NfsServer
from hostvm.shares.sftp_server import SftpServer
from hostvm.shares.sftp_wire import Reader
from hostvm.shares.tree import Tree
from images.archive.packages import PackageIndex, parse_relations
from images.archive.release import check_release, parse_release
from images.archive.versions import Version
from images.artefact.bundle import parse_bundle
from images.artefact.file import import_image
from images.artefact.layout import check_manifest, parse_artefact
from images.artefact.minisign import parse_public, parse_signature
from images.artefact.trust import KeyRing
from images.deb import read_control, unpack_data
from images.errors import ImageError, UsageError
from images.progress import NullProgress
from images.registry.auth import parse_challenge
from images.registry.reference import parse_reference
from runtime.docker.api import EngineApi, read_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 64 * 1024
"""Bytes of one input."""

SHARE = "00" * 32
CLIENT = "c" * 32
"""The secret name of a share whose handles a seed can have."""


class Told:
    """A stream that says what it was given and swallows what it is told; socket and guest's stream alike."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def recv(self, size: int) -> bytes:
        return self._data.read(size)

    def sendall(self, data: bytes) -> None:
        """Heard."""

    def shutdown_write(self) -> None:
        """Heard."""

    def settimeout(self, seconds: float | None) -> None:
        """It never waits."""

    def close(self) -> None:
        """Nothing is open."""


def agent_frames(data: bytes) -> None:
    stream = io.BytesIO(data)
    with contextlib.suppress(protocol.ProtocolError):
        while (frame := protocol.read_frame(stream)) is not None:
            for parse in (protocol.parse, protocol.parse_number, protocol.parse_size):
                with contextlib.suppress(protocol.ProtocolError):
                    parse(frame[1])


def qmp(data: bytes) -> None:
    with contextlib.suppress(HostvmError), Qmp(Told(data), 1.0) as session:
        while True:
            session.execute("query-status", timeout=1.0)
            session.wait_event({"STOP"}, 0.01)


def usernet(data: bytes) -> None:
    parse_usernet(data.decode(errors="replace"))


def console(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        EngineTrouble(Path(file.name))()
        panics(Path(file.name))


def sftp(data: bytes) -> None:
    def nothing_is_shared(name: str):
        raise KeyError(name)

    SftpServer(Told(data), nothing_is_shared).run()
    with contextlib.suppress(WireError):
        reader = Reader(memoryview(data))
        reader.attrs()
        reader.text()


def nfs(data: bytes) -> None:
    """Calls of whoever has handles of a share, with a folder, a file and a link in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder, "d").mkdir()
        Path(folder, "d", "f").write_bytes(b"content")
        Path(folder, "l").symlink_to("d/f")
        tree, store = Tree(folder), PlaceStore(":memory:")
        export = Export(tree, SHARE, store)
        # Numbers that are the same each time.
        export.places.number = lambda _, path: number_of(encode(path)) if path else ROOT
        top, inner = number_of(b"d"), number_of(b"d/f")
        export.places.note(ROOT, [(top, "d"), (number_of(b"l"), "l")])
        export.places.note(top, [(inner, "f")])
        faults: list[str] = []
        server = NfsServer(CLIENT, {token_of(SHARE): export}.__getitem__, lambda: [export], faults.append)
        try:
            server.run(Told(data))
        finally:
            for waiting in (server._sweeper, store._writer):
                if waiting is not None:
                    waiting.cancel()
            server.let_go(export)
            server._lasting.drain()
            store._base.close()
            tree.close()
        assert not faults, faults


def dns(data: bytes) -> None:
    for stream in (False, True):
        _LOOKUP.answer(data, stream=stream)


def http_names(data: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        head = parse_head(data)
        labels_of(head.host)
        watch = RequestWatch(head)
        for begin in range(0, len(data), 97):
            watch.feed(data[begin : begin + 97])


def engine_http(data: bytes) -> None:
    api = EngineApi(lambda: Told(data), "m")
    with contextlib.suppress(HostvmError):
        api.call("GET", "/containers/json")
    with contextlib.suppress(HostvmError):
        api.upload("POST", "/images/load", [b"tar"])
    with contextlib.suppress(HostvmError), api.open("GET", "/events") as response:
        for _ in read_chunks(response):
            pass


def release(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        found = parse_release(data.decode(errors="replace"))
        check_release(found, "trixie", "http://mirror/debian", datetime(2026, 11, 1, tzinfo=UTC))
        found.index("amd64")


def packages(data: bytes) -> None:
    text = data.decode(errors="replace")
    index = PackageIndex()
    with contextlib.suppress(ImageError):
        index.add([text.encode()], "http://mirror/debian")
        index.newest("bash")
        index.required()
        index.close_names("bahs")
    with contextlib.suppress(ValueError):
        parse_relations(text)


def versions(data: bytes) -> None:
    texts = data.decode(errors="replace").split("\n")[:20]
    with contextlib.suppress(ValueError):
        once = sorted(map(Version, texts))
        assert all(not later < earlier for earlier, later in pairwise(once)), "an order that is none"


def deb(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.deb")
        path.write_bytes(data)
        with contextlib.suppress(ImageError):
            read_control(path)
        with contextlib.suppress(ImageError):
            unpack_data(path, Path(folder, "data.tar"))


def oci(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        check_manifest(data, parse_artefact(data, "here"), "here")


def bundle(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        parse_bundle(data, "here").units("images")


def image_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ImageError):
        import_image(io.BytesIO(data), "here", Path(folder), KeyRing(Path(folder, "keys")), NullProgress())


def registry_words(data: bytes) -> None:
    text = data.decode(errors="replace")
    parse_challenge(text)
    for parse in (parse_reference, parse_signature, lambda text: parse_public(text, "here")):
        with contextlib.suppress(ImageError, UsageError):
            parse(text)


def _known(name: str, family: int) -> list[str]:
    addresses = ["127.0.0.1", "192.0.2.1"] if family == socket.AF_INET else ["::1", "2001:db8::1"]
    return addresses if name else []


_LOOKUP = Lookup("10.0.2.2", _known, list)

TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        agent_frames, qmp, usernet, console, sftp, nfs, dns, http_names, engine_http, release, packages, versions, deb,
        oci, bundle, image_file, registry_words,
    )
}  # fmt: skip
