"""Well-formed input of each target, for a fuzzer to begin with."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile

import dns.message

from hostvm.agent import protocol
from hostvm.shares import sftp_wire as wire
from images.artefact.bundle import Bundle, Member
from images.artefact.layout import make_artefact
from images.artefact.minisign import new_key

_RELEASE = b"""Origin: Debian
Suite: stable
Codename: trixie
Date: Sat, 31 Oct 2026 10:00:00 UTC
Valid-Until: Sat, 07 Nov 2026 10:00:00 UTC
SHA256:
 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef 1234 main/binary-amd64/Packages.xz
"""
_PACKAGE = b"""Package: bash
Version: 5.2.37-2+b5
Architecture: amd64
Essential: yes
Priority: required
Provides: sh (= 1)
Pre-Depends: libc6 (>= 2.38), libtinfo6 (>= 6)
Depends: base-files (>= 2.1.12), debianutils (>= 5.6-0.1) | dash:any
Filename: pool/main/b/bash/bash_5.2.37-2+b5_amd64.deb
Size: 1491312
SHA256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef

"""
_HTTP = b"GET /a HTTP/1.1\r\nHost: web.hostvm.localhost:80\r\nContent-Length: 3\r\n\r\nabc"
_CHUNKED = b"GET / HTTP/1.1\r\nHost: a.hostvm.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
_REFUSED = b'HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{"message": "x"}'
_USERNET = (
    b"  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    b"  TCP[HOST_FORWARD]  12       127.0.0.1 43293       10.0.2.15    22     0     0\r\n"
)
_GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}\n'
_QMP = _GREETING + b'{"return": {}}\n{"event": "STOP", "timestamp": {}}\n{"return": {"status": "running"}}\n'


def _deb() -> bytes:
    inside = io.BytesIO()
    with tarfile.open(fileobj=inside, mode="w") as tar:
        info = tarfile.TarInfo("./control")
        info.size = len(_PACKAGE)
        tar.addfile(info, io.BytesIO(_PACKAGE))
    packed = gzip.compress(inside.getvalue(), mtime=0)
    found = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar.gz", packed), ("data.tar.gz", packed)):
        found += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return found


def _artefact() -> bytes:
    part = {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}
    manifest = {
        "format": 1, "name": "docker", "arch": "amd64", "suite": "trixie", "date": 1_795_194_416,
        "kernel_release": "6.12.1-amd64", "console": "ttyS0", "cmdline": "", "cmdline_tcg": "", "recipe": "0" * 64,
        "packed_by": [], "packages": [], "files": dict.fromkeys(("vmlinuz", "initramfs", "root.erofs"), part),
    }  # fmt: skip
    return make_artefact(manifest, [], b"{}").manifest


def _sftp() -> bytes:
    hello = struct.pack(">IBI", 5, wire.INIT, 3)
    opened = wire.packet(wire.OPEN, 1, wire.string(b"/share/a"), wire.u32(wire.F_READ), wire.u32(0))
    closed = wire.packet(wire.CLOSE, 2, wire.string(b"1"))
    return hello + opened + wire.packet(wire.LSTAT, 3, wire.string(b"/share")) + closed


def _signed() -> list[bytes]:
    key = new_key()
    return [key.public.file.encode(), key.sign(b"content", "a comment").encode()]


SEEDS: dict[str, list[bytes]] = {
    "agent_frames": [protocol.control(protocol.HELLO, {"argv": ["a"]}) + protocol.resize(24, 80)],
    "qmp": [_QMP, _GREETING + b'{"error": {"class": "GenericError", "desc": "no"}}\n'],
    "usernet": [_USERNET],
    "console": [b"hostvm-guest: fail engine dockerd ended 3 times\n[ 1.0] Kernel panic - not syncing: Oops\n"],
    "sftp": [_sftp()],
    "dns": [dns.message.make_query(*of).to_wire() for of in (("host.docker.internal", "A"), ("a.b", "MX"))],
    "http_names": [_HTTP, _CHUNKED],
    "engine_http": [_ANSWER, _REFUSED],
    "release": [_RELEASE],
    "packages": [_PACKAGE, b"a, b (>= 1) | c:any [amd64]"],
    "versions": [b"1:2.3-4\n2.3~rc1-1\n2.3+b1"],
    "deb": [_deb()],
    "oci": [_artefact()],
    "bundle": [Bundle((Member("wheels/a.whl", 1, "0" * 64),), {"0" * 64: ["a"]}, {"arch": "amd64"}).encoded()],
    "image_file": [gzip.compress(b"x", mtime=0), b"\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00x"],
    "registry_words": [
        b'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a:pull"',
        b"registry.test:5000/team/image:1.2@sha256:" + b"0" * 64,
        *_signed(),
    ],
}
