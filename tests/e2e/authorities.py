"""Certificate authorities that nobody else knows."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

HOST = "host.docker.internal"


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
