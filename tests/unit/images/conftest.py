"""A tiny Debian archive made and signed by the tests, served from a folder instead of the network."""

from __future__ import annotations

import email.utils
import hashlib
import io
import lzma
import re
import shutil
import struct
import sys
import tarfile
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from pysequoia import SignatureMode, Tsk, sign
from requests.adapters import BaseAdapter

from images.archive import Fetcher, Patience
from images.build import build_image
from images.progress import NullProgress
from images.recipe import load_recipe
from images.store import describe_parts, store_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).parent))  # helpers lie beside the tests
from building import RECIPE, NoBuilder

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MIRROR = "http://mirror.test/debian"


def ar(members: dict[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}".encode() + b"`\n" + content
        data += b"\n" * (len(content) % 2)
    return data


def make_tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, data: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    """A tar member; a name that ends with a slash is a folder."""
    info = tarfile.TarInfo(f"./{name.rstrip('/')}")
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    info.mode = 0o755 if name.endswith("/") else 0o644
    info.mtime = 1_700_000_000
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)  # the default would spend most of the tests' time


def make_deb(control: dict[str, bytes], entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": xz(make_tar([entry(name, data) for name, data in control.items()])),
            "data.tar.xz": xz(make_tar(entries)),
        }
    )


def kernel_module(*info: str, exports: tuple[str, ...] = (), needs: tuple[str, ...] = (), sums: bool = True) -> bytes:
    """A kernel module that depmod can read; it does nothing.

    :param info: key=value.
    :param sums: its exports have checksums, as with CONFIG_MODVERSIONS; without, only their names are told.
    """
    strings, symbols = b"\0", struct.pack("<I2BH2Q", 0, 0, 0, 0, 0, 0)
    for name, section in [
        *((f"__crc_{name}", 1) for name in exports if sums),
        ("own", 1),
        *((name, 0) for name in needs),
    ]:
        symbols += struct.pack("<I2BH2Q", len(strings), 0, 0, section, 0, 0)
        strings += name.encode() + b"\0"
    contents = {
        "": b"",
        ".modinfo": b"".join(b"\0" + entry.encode() + b"\0" for entry in info),
        "__ksymtab_strings": b"".join(name.encode() + b"\0" for name in exports),
        ".symtab": symbols,
        ".strtab": strings,
        ".shstrtab": b"",
    }
    contents[".shstrtab"] = "".join(f"{name}\0" for name in contents).encode()
    data, headers = b"", b""
    for name, content in contents.items():
        start = contents[".shstrtab"].index(name.encode() + b"\0")
        headers += struct.pack("<2I4Q2I2Q", start, 1 if content else 0, 0, 0, 64 + len(data), len(content), 0, 0, 1, 0)
        data += content
    kind = (1, 62, 1, 0, 0, 64 + len(data), 0, 64, 0, 0, 64, len(contents), len(contents) - 1)  # relocatable, amd64
    return struct.pack("<16s2HI3QI6H", b"\x7fELF\2\1\1", *kind) + data + headers


@dataclass
class FakeArchive:
    """Packages are added, then `publish` writes and signs the indexes."""

    root: Path
    key: Tsk
    suite: str = "trixie"
    arch: str = "amd64"
    stanzas: list[str] = field(default_factory=list)
    mirror: str = MIRROR
    now: datetime = NOW

    @property
    def keys(self):
        return [self.key.extract_certificate()]

    def add(self, name: str, version: str = "1.0", *, files=(), scripts=None, **fields: str) -> None:
        fields = {key.replace("_", "-"): value for key, value in fields.items()}
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {self.arch}\n"
        control += "".join(f"{key}: {value}\n" for key, value in fields.items())
        deb = make_deb({"control": control.encode(), **(scripts or {})}, list(files))
        path = f"pool/{name}_{version}_{self.arch}.deb"
        self.write(path, deb)
        control += f"Filename: {path}\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
        self.stanzas.append(control)

    def write(self, path: str, data: bytes) -> None:
        target = self.root / "debian" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def path(self, name: str) -> Path:
        return self.root / "debian" / name

    def publish(self, *, key: Tsk | None = None, until: datetime | None = NOW + timedelta(days=7), **fields) -> None:
        packages = xz("\n".join(self.stanzas).encode(errors="surrogateescape"))
        digest = hashlib.sha256(packages).hexdigest()
        folder = f"dists/{self.suite}"
        binary = f"main/binary-{self.arch}"
        self.write(f"{folder}/{binary}/Packages.xz", packages)
        self.write(f"{folder}/{binary}/by-hash/SHA256/{digest}", packages)
        release = {
            "Suite": "stable",
            "Codename": self.suite,
            "Date": email.utils.format_datetime(NOW - timedelta(hours=1)),
            **({"Valid-Until": email.utils.format_datetime(until)} if until else {}),
            "Acquire-By-Hash": "yes",
            **{name.replace("_", "-"): value for name, value in fields.items()},
        }
        text = "".join(f"{name}: {value}\n" for name, value in release.items())
        text += f"SHA256:\n {digest} {len(packages)} {binary}/Packages.xz\n"
        signer = (key or self.key).signer()
        self.write(f"{folder}/InRelease", bytes(sign(signer, text.encode(), mode=SignatureMode.CLEAR)))


class Gate:
    """Lets requests pass as soon as `wanted` of them are there at once; `most` is how many were."""

    def __init__(self, wanted: int, seconds: float = 10.0) -> None:
        self.wanted, self.seconds = wanted, seconds
        self.inside = self.most = 0
        self._changed = threading.Condition()

    @contextmanager
    def passing(self) -> Iterator[None]:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            together = self._changed.wait_for(lambda: self.most >= self.wanted, self.seconds)
        try:
            assert together, f"at most {self.most} requests came at once, not {self.wanted}"
            yield
        finally:
            with self._changed:
                self.inside -= 1


@pytest.fixture
def gate() -> type[Gate]:
    return Gate


class FolderAdapter(BaseAdapter):
    """Answers http requests from files, Range included; keeps what was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.requests: list[tuple[str, str | None]] = []
        self.faults: list[Exception | int | None] = []
        """What to do instead of answering, one per request: raise, a status, or None for nothing."""
        self.late = ""
        """What is said with a status of those: when to come again."""
        self.cut: int | None = None
        """End the next body after that many bytes, once."""
        self.ranges = True
        self.before: dict[str, Callable[[], None]] = {}
        """What to do before the first answer to a path that holds such a word."""
        self.gate: Gate | None = None
        self._lock = threading.Lock()

    def send(self, request, **kwargs):
        with self.gate.passing() if self.gate else nullcontext():
            return self._answer(request)

    def _answer(self, request):
        path = urlsplit(request.url).path.lstrip("/")
        wanted = request.headers.get("Range")
        with self._lock:
            self.requests.append((path, wanted))
            for word in [word for word in self.before if word in path]:
                self.before.pop(word)()
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        file = self.root / path
        response = requests.Response()
        response.request, response.url, response.reason = request, request.url, "as the test says"
        response.status_code = fault or (200 if file.is_file() else 404)
        data = file.read_bytes() if response.status_code == 200 else b""
        if wanted and self.ranges and response.status_code == 200:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            response.status_code = 206 if start < len(data) else 416
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        response.headers["Content-Length"] = str(len(data))
        if fault and self.late:
            response.headers["Retry-After"] = self.late
        if self.cut is not None and response.ok:
            data, self.cut = data[: self.cut], None
        response.raw = io.BytesIO(data)
        return response

    def close(self) -> None:
        pass


class Noting(NullProgress):
    """`notes`: what the user was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def noting() -> Noting:
    return Noting()


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """What tests build archives from."""
    return SimpleNamespace(ar=ar, tar=make_tar, deb=make_deb, entry=entry, link=link, module=kernel_module)


@pytest.fixture(scope="session")
def signing_key() -> Tsk:
    return Tsk.generate("Archive of the tests <archive@mirror.test>")


@pytest.fixture(scope="session")
def stranger_key() -> Tsk:
    return Tsk.generate("Somebody else <else@mirror.test>")


@pytest.fixture
def archive(tmp_path: Path, signing_key: Tsk) -> FakeArchive:
    return FakeArchive(tmp_path / "served", signing_key)


@pytest.fixture
def adapter(tmp_path: Path) -> FolderAdapter:
    return FolderAdapter(tmp_path / "served")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fetcher(adapter: FolderAdapter, cache: Path) -> Fetcher:
    session = requests.Session()
    session.mount("http://", adapter)
    return Fetcher(cache, session, Patience(attempts=3, sleep=lambda _seconds: None))


PACKAGES = (("libc6", "2.41-12"), ("libstdc++6", "14.2.0-19"), ("openssl", "3.5.1-1+deb13u1"))


@pytest.fixture
def make_image(tmp_path: Path, cache: Path):
    """Stores small images; each call another one by what is given."""

    def make(name: str = "docker", *, root: bytes = b"root" * 1000, packages=PACKAGES, **facts):
        folder = tmp_path / "image-being-made"
        folder.mkdir()
        for part, data in {"vmlinuz": b"kernel", "initramfs": b"init" * 300, "root.erofs": root}.items():
            (folder / part).write_bytes(data)
        listed = [
            {"name": n, "version": v, "arch": "amd64", "sha256": hashlib.sha256(f"{n}{v}".encode()).hexdigest()}
            for n, v in packages
        ]
        manifest = {
            "format": 1,
            "name": name,
            "arch": "amd64",
            "suite": "trixie",
            "date": 1_795_194_416,
            "kernel_release": "6.12.1-amd64",
            "console": "ttyS0",
            "cmdline": "quiet",
            "cmdline_tcg": "",
            "recipe": "0" * 64,
            "packages": listed,
            "packed_by": ["erofs-utils 1.8"],
            **facts,
        }
        image = store_image(folder, manifest | {"files": describe_parts(folder)}, cache)
        shutil.rmtree(folder, ignore_errors=True)
        return image

    return make


@pytest.fixture
def shop(archive, make):
    def ko(name: str, *needs: str):
        return make.entry(name, lzma.compress(make.module(f"depends={','.join(needs)}")))

    kernel = "usr/lib/modules/6.12-amd64/kernel"
    archive.add("linux-image-amd64", Depends="linux-image-6.12-amd64 (= 1.0)")
    archive.add(
        "linux-image-6.12-amd64",
        files=[
            make.entry("boot/vmlinuz-6.12-amd64", b"KERNEL"),
            make.entry("usr/lib/modules/6.12-amd64/modules.builtin", b"kernel/drivers/virtio/virtio_pci.ko\n"),
            ko(f"{kernel}/fs/overlay.ko.xz"),
            ko(f"{kernel}/fs/erofs.ko.xz", "libcrc32c"),
            ko(f"{kernel}/lib/libcrc32c.ko.xz"),
            ko(f"{kernel}/virtio_blk.ko.xz"),
            ko(f"{kernel}/binfmt_misc.ko.xz"),
            ko(f"{kernel}/unused.ko.xz"),
        ],
    )
    masters = "usr/share/base-passwd"
    archive.add("base-files", files=[make.entry("usr/bin/"), make.link("bin", "usr/bin")])
    archive.add(
        "base-passwd",
        files=[
            make.entry(f"{masters}/passwd.master", b"root:*:0:0:root:/root:/bin/bash\n"),
            make.entry(f"{masters}/group.master", b"root:*:0:\n"),
        ],
    )
    archive.add(
        "hello",
        files=[make.entry("usr/bin/hello", b"hi", mode=0o755), make.entry("usr/share/doc/hello/README", b"")],
        Depends="busybox-static",
    )
    archive.add("busybox-static", files=[make.entry("usr/bin/busybox", b"BB", mode=0o755)])
    archive.publish(until=None)
    return archive


@pytest.fixture
def build(shop, fetcher, cache):
    def build(builder=None, text=RECIPE, progress=None, cache=cache, recipe=None):
        return build_image(
            recipe or load_recipe(text, "tiny.yaml"),
            "amd64",
            None,
            shop.mirror,
            cache,
            builder or NoBuilder(),
            progress or NullProgress(),
            keys=shop.keys,
            fetcher=fetcher,
        )

    return build
