"""Certificate authorities that this computer trusts and a guest image does not know: a company's own, mostly."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostvm.errors import HostvmError, SpecError
from hostvm.net.settings import HOST, NONE
from hostvm.platform.words import quoted, show_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----\s(.*?)-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL)
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)
_KEYCHAINS = ("/Library/Keychains/System.keychain", "/System/Library/Keychains/SystemRootCertificates.keychain")
_SECURITY_SECONDS = 20.0


def wanted_certificates(ca: str) -> bytes:
    """What is to be added to the guest's bundle, as PEM; empty when there is nothing.

    :param ca: `host`, `none`, or a PEM file's path, as in machine.yaml.
    :raises SpecError: the file cannot be read or holds no certificate.
    """
    if ca == NONE:
        return b""
    if ca == HOST:
        return to_pem(own_authorities(host_store(), _public_authorities()))
    return to_pem(read_file(Path(ca)))


def registry_certificates(files: Mapping[str, str]) -> dict[str, bytes]:
    """Authorities of single registries: the seed's files, PEM, from `registries.ca`.

    :param files: the registry's HOST[:PORT], and the path of its PEM file.
    :raises SpecError: a file cannot be read or holds no certificate.
    """
    return {f"certs/{host}": to_pem(read_file(Path(path), f"registries.ca.{host}")) for host, path in files.items()}


def read_file(path: Path, key: str = "ca") -> list[bytes]:
    """The certificates of a PEM file, as DER.

    :param key: of machine.yaml, for messages.
    :raises SpecError: it cannot be read, or what is in it is no certificate in PEM form.
    """
    shown = f"openssl x509 -in {quoted(str(path))} -noout -subject"
    resolution = f"show what is in it: {shown}   # DER needs -inform der -out ca.pem"
    try:
        found = split_pem(path.read_bytes())
    except OSError as fault:
        way = f"look: {show_folder(str(path))}"
        raise SpecError(f"{key}: {path} cannot be read", fault.strerror, way) from fault
    except ValueError as fault:
        raise SpecError(f"{key}: {path} is damaged", str(fault), resolution) from fault
    if not found:
        raise SpecError(
            f"{key}: {path} holds no certificate in PEM form", "no BEGIN CERTIFICATE line in it", resolution
        )
    for der in found:
        _check(path, der, key, resolution)
    return found


def split_pem(text: bytes) -> list[bytes]:
    """Every certificate of a PEM text, as DER, in order and once.

    :raises ValueError: one is not base64.
    """
    found = []
    for block in _PEM.findall(text):
        lines = block.replace(b"\r", b"").split(b"\n")
        found.append(base64.b64decode(b"".join(line.strip() for line in lines), validate=True))
    return list(dict.fromkeys(found))


def to_pem(certificates: Iterable[bytes]) -> bytes:
    """DER certificates as one PEM text."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in certificates).encode()


def own_authorities(store: Iterable[bytes], public: Iterable[bytes]) -> list[bytes]:
    """The store without public authorities, which the guest has from Debian: by the certificates' SHA-256."""
    known = {hashlib.sha256(der).digest() for der in public}
    return [der for der in store if hashlib.sha256(der).digest() not in known]


def host_store() -> Sequence[bytes]:
    """What this computer trusts, as DER; empty where no store is found."""
    if sys.platform == "win32":
        entries = [entry for store in ("ROOT", "CA") for entry in ssl.enum_certificates(store)]
        # Trusted for everything, or for servers by name.
        usable = [
            der
            for der, kind, trust in entries
            if kind == "x509_asn" and (trust is True or ssl.Purpose.SERVER_AUTH.oid in (trust or ()))
        ]
        return list(dict.fromkeys(usable))
    if sys.platform == "darwin":
        from hostvm import process

        argv = ["/usr/bin/security", "find-certificate", "-a", "-p", *_KEYCHAINS]
        try:
            return split_pem(process.run(argv, timeout=_SECURITY_SECONDS).stdout)
        except (HostvmError, ValueError):
            return ()
    for name in (os.environ.get("SSL_CERT_FILE", ""), *_BUNDLES):
        try:
            found = split_pem(Path(name).read_bytes()) if name else []
        except (OSError, ValueError):
            continue
        if found:
            return found
    return ()


def _public_authorities() -> list[bytes]:
    import certifi  # what requests trusts: Mozilla's list

    return split_pem(Path(certifi.where()).read_bytes())


def _check(path: Path, der: bytes, key: str, resolution: str) -> None:
    from cryptography import x509  # paramiko brought it

    try:
        x509.load_der_x509_certificate(der)
    except ValueError as fault:
        raise SpecError(
            f"{key}: {path} is damaged", f"a certificate in it cannot be read: {fault}", resolution
        ) from fault
