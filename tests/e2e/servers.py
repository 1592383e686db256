"""Servers of this computer that a guest asks: proxies, and registries with an authority of their own or without."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import http.server
import io
import json
import ssl
import tarfile
import threading
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from layers import archive

if TYPE_CHECKING:
    from pathlib import Path

HOST = "host.docker.internal"
NOTHING = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


class Answering(http.server.BaseHTTPRequestHandler):
    """HEAD is GET without its body, and nothing is logged."""

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *words):
        pass


class Handler(Answering):
    """A proxy that makes its answers up, or a registry that has nothing; `seen` holds (path, User-Agent)."""

    seen: list[tuple[str, str]]

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("User-Agent", "")))
        asks = "/v2/" in self.path
        body = NOTHING if asks else b"from the proxy\n"
        self.answer(404 if asks and not self.path.endswith("/v2/") else 200, body)


class OneImage(Answering):
    """A registry that has the same image under each name; `seen` holds what it was asked for."""

    parts: dict[str, tuple[str, bytes]]
    seen: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.seen.append(self.path)
        name = self.path.partition("?")[0].rpartition("/")[2]  # containerd asks a mirror with ?ns=docker.io
        status, (kind, body) = 200, self.parts.get(name, ("application/json", b"{}"))
        if "/manifests/" in self.path and name not in self.parts:
            kind, body = self.parts["manifest"]
        elif body == b"{}" and self.path != "/v2/":
            status, body = 404, NOTHING
        self.answer(status, body, {"Content-Type": kind, "Docker-Content-Digest": _digest(body)})


def image_parts() -> dict[str, tuple[str, bytes]]:
    """Kind and bytes of an image of two layers that no other registry has, by their digests; and as "manifest"."""
    with tarfile.open(fileobj=io.BytesIO(archive(["x"], common=4096, own=4096))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    (listed,) = json.loads(files["manifest.json"])
    base = "application/vnd.docker"

    def part(kind: str, data: bytes) -> dict[str, object]:
        found[_digest(data)] = (kind, data)
        return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

    found: dict[str, tuple[str, bytes]] = {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{base}.distribution.manifest.v2+json",
        "config": part(f"{base}.container.image.v1+json", files[listed["Config"]]),
        "layers": [part(f"{base}.image.rootfs.diff.tar.gzip", gzip.compress(files[one])) for one in listed["Layers"]],
    }
    data = json.dumps(manifest).encode()
    part(manifest["mediaType"], data)
    return {**found, "manifest": (manifest["mediaType"], data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def serve(
    context: ssl.SSLContext | None = None, handler: type = Handler, **facts: object
) -> http.server.ThreadingHTTPServer:
    """A server of this computer's loopback.

    :param facts: what its handler has beside an empty `seen`.
    """
    handler = type("Seen", (handler,), {"seen": [], **facts})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # a client that does not believe the certificate hangs up
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def make_authority(folder: Path, name: str, *, days_ago: int = 0) -> tuple[Path, ssl.SSLContext]:
    """A certificate authority's PEM file, and a server's context with a certificate of it for HOST, for two days."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago)

    def certificate(subject: str, issuer: str, key, signer, *extensions) -> bytes:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key.public_key(),
            x509.random_serial_number(),
            now - dt.timedelta(days=1),
            now + dt.timedelta(days=2),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = folder / f"{name}.pem"
    authority.write_bytes(certificate(name, name, root, root, x509.BasicConstraints(ca=True, path_length=None)))
    chain = folder / f"{name}-server.pem"
    chain.write_bytes(
        leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate(HOST, name, leaf, root, x509.SubjectAlternativeName([x509.DNSName(HOST)]))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return authority, context
