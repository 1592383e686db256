"""Well-formed input of each target, for a fuzzer to begin with."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile

import dns.message
from targets import CLIENT, SHARE

from hostvm.agent import protocol
from hostvm.shares import sftp_wire as wire
from hostvm.shares.nfs import rpc
from hostvm.shares.nfs import wire as nfs
from hostvm.shares.nfs.exports import NUMBER_BYTES, token_of
from hostvm.shares.nfs.places import ROOT, number_of
from hostvm.shares.nfs.xdr import opaque, u32, u64
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


def _nfs() -> list[bytes]:
    """Every procedure once, all in one stream and each for itself; and a call in two pieces."""

    def handle(number: int) -> bytes:
        return opaque(token_of(SHARE) + number.to_bytes(NUMBER_BYTES, "big"))

    root, folder, file, link = (handle(one) for one in (ROOT, *map(number_of, (b"d", b"d/f", b"l"))))
    name, new, other = opaque(b"d"), opaque(b"new"), opaque(b"f")
    nothing = bytes(24)
    some = b"".join((u32(1), u32(0o644), u32(0), u32(0), u32(1), u64(3), u32(1), u32(2), u32(5), u32(6)))
    calls = [
        (nfs.MOUNT, nfs.MOUNT_MNT, opaque(b"/" + token_of(SHARE).hex().encode())),
        (nfs.NFS, nfs.GETATTR, file),
        (nfs.NFS, nfs.SETATTR, file + some + u32(0)),
        (nfs.NFS, nfs.SETATTR, file + nothing + u32(1) + u64(0)),
        (nfs.NFS, nfs.LOOKUP, root + name),
        (nfs.NFS, nfs.LOOKUP, folder + opaque(b"..")),
        (nfs.NFS, nfs.ACCESS, root + u32(0x3F)),
        (nfs.NFS, nfs.READLINK, link),
        (nfs.NFS, nfs.READ, file + u64(1) + u32(9)),
        *((nfs.NFS, nfs.WRITE, file + u64(2) + u32(3) + u32(how) + opaque(b"abc")) for how in range(3)),
        (nfs.NFS, nfs.CREATE, root + new + u32(nfs.UNCHECKED) + some),
        (nfs.NFS, nfs.CREATE, folder + new + u32(nfs.GUARDED) + nothing),
        (nfs.NFS, nfs.CREATE, folder + opaque(b"x") + u32(nfs.EXCLUSIVE) + b"verifier"),
        (nfs.NFS, nfs.WRITE, handle(number_of(b"new")) + u64(0) + u32(1) + u32(0) + opaque(b"a")),
        (nfs.NFS, nfs.MKDIR, root + opaque(b"e") + nothing),
        (nfs.NFS, nfs.SYMLINK, root + opaque(b"s") + nothing + opaque(b"../d")),
        (nfs.NFS, nfs.MKNOD, root + opaque(b"p") + u32(nfs.PIPE) + nothing),
        (nfs.NFS, nfs.LINK, file + root + opaque(b"second")),
        (nfs.NFS, nfs.RENAME, folder + other + root + opaque(b"g")),
        (nfs.NFS, nfs.REMOVE, root + new),
        (nfs.NFS, nfs.RMDIR, root + opaque(b"e")),
        (nfs.NFS, nfs.READDIR, root + u64(0) + bytes(8) + u32(4096)),
        (nfs.NFS, nfs.READDIRPLUS, folder + u64(2) + bytes(8) + u32(512) + u32(4096)),
        *((nfs.NFS, procedure, root) for procedure in (nfs.FSSTAT, nfs.FSINFO, nfs.PATHCONF)),
        (nfs.NFS, nfs.COMMIT, file + u64(0) + u32(0)),
    ]
    caller = opaque(b"".join((u32(0), opaque(CLIENT.encode()), u32(1000), u32(1000), u32(0))))
    records = [
        struct.pack(">7I", number, 0, 2, program, 3, procedure, nfs.AUTH_SYS) + caller + bytes(8) + words
        for number, (program, procedure, words) in enumerate(calls)
    ]
    pieces = u32(8) + records[1][:8] + rpc.record(records[1][8:])
    return [b"".join(map(rpc.record, records)), pieces, *map(rpc.record, records)]


def _signed() -> list[bytes]:
    key = new_key()
    return [key.public.file.encode(), key.sign(b"content", "a comment").encode()]


SEEDS: dict[str, list[bytes]] = {
    "agent_frames": [protocol.control(protocol.HELLO, {"argv": ["a"]}) + protocol.resize(24, 80)],
    "qmp": [_QMP, _GREETING + b'{"error": {"class": "GenericError", "desc": "no"}}\n'],
    "usernet": [_USERNET],
    "console": [b"hostvm-guest: fail engine dockerd ended 3 times\n[ 1.0] Kernel panic - not syncing: Oops\n"],
    "sftp": [_sftp()],
    "nfs": _nfs(),
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
