"""A real registry on the loopback (Debian's docker-registry), in the shapes that push and pull meet."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import ipaddress
import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from images.archive import Patience
from images.registry.client import Access

PROGRAM = Path(__file__).parents[2] / ".tools" / "bin" / "docker-registry"
USER, PASSWORD = "anna", "correct horse: battery"
SERVICE, ISSUER = "the registry", "the tests"


def make_access(credentials, **options) -> Access:
    patience = Patience(attempts=5, pause=0.1)
    return Access(lambda: credentials, patience=patience, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """`host`; `stop()` and `start()` end and begin it on the same data; `log` is what it was asked."""

    def __init__(self, folder: Path, **sections) -> None:
        assert PROGRAM.is_file(), f"no {PROGRAM}: run `make setup`"
        self.folder, self.port = folder, free_port()
        self.host = f"localhost:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
            **sections,
        }
        config["http"] = {"addr": f"127.0.0.1:{self.port}", **sections.get("http", {})}
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> list[str]:
        """Its access log: METHOD PATH HTTP STATUS."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return [line.split('"', 2)[1] + line.split('"', 2)[2][:4] for line in lines if line.startswith("127.0.0.1 ")]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", self.folder / "config.yml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()


def htpasswd(folder: Path) -> dict:
    """A registry's `auth` section for USER and PASSWORD."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{digest}\n")
    return {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}


class Authority:
    """A certificate authority and a certificate for localhost; `ca`, `cert` and `key` are PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        now = dt.datetime.now(dt.UTC)
        ca_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        self.private = key
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])

        def issue(name, public, *extensions):
            builder = x509.CertificateBuilder(ca_name, name, public, x509.random_serial_number())
            builder = builder.not_valid_before(now - dt.timedelta(days=1))
            builder = builder.not_valid_after(now + dt.timedelta(days=1))
            # Python 3.13 refuses certificates without these: ssl.VERIFY_X509_STRICT is its default.
            identifiers = (
                x509.SubjectKeyIdentifier.from_public_key(public),
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            )
            for extension, critical in (*extensions, *((one, False) for one in identifiers)):
                builder = builder.add_extension(extension, critical)
            return builder.sign(ca_key, hashes.SHA256())

        signs = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        basics = x509.BasicConstraints(ca=True, path_length=None)
        ca = issue(ca_name, ca_key.public_key(), (basics, True), (signs, True))
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        self.certificate = issue(name, key.public_key(), (names, False))
        pem = serialization.Encoding.PEM
        self.ca.write_bytes(ca.public_bytes(pem))
        self.cert.write_bytes(self.certificate.public_bytes(pem))
        self.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


class TokenServer:
    """Gives tokens that the registry itself checks: https://distribution.github.io/distribution/spec/auth/jwt/.

    `asked` keeps every request's query or form and its Authorization header; `lifetime` is in seconds.
    """

    def __init__(self, authority: Authority) -> None:
        self.authority, self.asked, self.lifetime = authority, [], 60
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.give({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.give({key: values[0] for key, values in parse_qs(body).items()})

            def give(self, query):
                header = self.headers.get("Authorization", "")
                outer.asked.append((query, header))
                good = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
                allowed = header == good or query.get("refresh_token") == PASSWORD
                data = json.dumps({"token": outer.token(query["scope"])} if allowed else {}).encode()
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self.server.server_port}/token"
        self.auth = {
            "token": {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(authority.cert)}
        }

    def token(self, scope: str) -> str:
        kind, name, actions = scope.split(":")
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "nbf": now - 60,  # the registry allows a minute of difference after `exp`, too
            "exp": now + self.lifetime,
            "iat": now,
            "jti": "1",
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        der = self.authority.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}

        def pack(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).decode().rstrip("=")

        signed = f"{pack(json.dumps(head).encode())}.{pack(json.dumps(claims).encode())}"
        signature = self.authority.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{pack(signature)}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
