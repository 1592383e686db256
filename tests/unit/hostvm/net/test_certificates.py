"""Certificate files and what of a store is a company's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest

from hostvm import process
from hostvm.errors import HostvmError, SpecError
from hostvm.net import certificates
from hostvm.net.certificates import host_store, own_authorities, read_file, split_pem, to_pem, wanted_certificates

PEM = b"""\
-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUDCOaEgMoPEVlwtL8j3frRFQ14uswCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDb25lMCAXDTI2MTEyNDEwNDUyNFoYDzIwNTQwNDEwMTA0NTI0
WjAOMQwwCgYDVQQDDANvbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT03g5f
JjvUCTBVqwbC0qZ8iVEFwfF3WCMixYW88FRU5Xn+o8k/ku6Db6lSCow5iA533JdO
pyLp7IoP9zTb/ivoo1MwUTAdBgNVHQ4EFgQUc7aNoKquAjd5UcQd2sILWDPLHnIw
HwYDVR0jBBgwFoAUc7aNoKquAjd5UcQd2sILWDPLHnIwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiBMU5CrD0V2eB8RpD9TsLp6124YVOhh3ncYJ3LT
boszYwIhAPkIFhiqv7bmYjJnMmMUunb6NxMF2lWisI5CPtdLlC78
-----END CERTIFICATE-----
"""
DER = split_pem(PEM)[0]


def test_a_bundle_is_split_and_written_again():
    trusted = PEM.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
    assert split_pem(b"# a comment\n" + PEM + trusted + PEM.replace(b"\n", b"\r\n")) == [DER]
    assert to_pem([DER]) == PEM


def test_public_authorities_are_left_out():
    assert own_authorities([b"corp", b"public"], [b"public", b"more"]) == [b"corp"]


def test_none_wants_nothing():
    assert wanted_certificates("none") == b""


def test_of_this_computers_own_store_what_is_not_public_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "store.pem"))
    (tmp_path / "store.pem").write_bytes(Path(certifi.where()).read_bytes() + PEM)
    assert wanted_certificates("host") == PEM
    (tmp_path / "store.pem").write_bytes(Path(certifi.where()).read_bytes())
    assert wanted_certificates("host") == b""


def test_a_file_is_what_is_wanted(tmp_path):
    (tmp_path / "ca.pem").write_bytes(b"Subject: x\n" + PEM + PEM)
    assert wanted_certificates(str(tmp_path / "ca.pem")) == PEM


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"", "no certificate in PEM form"),
        (DER, "no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n", "damaged"),
        (to_pem([b"no certificate"]), "damaged"),
        (PEM.replace(b"CERTIFICATE", b"PRIVATE KEY"), "no certificate in PEM form"),
    ],
)
def test_a_file_that_is_no_certificate(tmp_path, content, says):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_file(file)
    assert says in caught.value.brief
    assert str(file) in caught.value.brief
    assert caught.value.resolution


def on(monkeypatch, platform: str) -> None:
    """Let the module take this computer for another."""
    monkeypatch.setattr(certificates, "sys", SimpleNamespace(platform=platform))


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A Linux computer's store of authorities; there is nothing in it yet."""
    on(monkeypatch, "linux")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(certificates, "_BUNDLES", (str(tmp_path / "none"), str(tmp_path / "store.pem")))
    return tmp_path / "store.pem"


def public_pem() -> bytes:
    return Path(certifi.where()).read_bytes()


def test_host_wants_the_stores_own_authorities_as_they_are_at_each_look(store):
    assert wanted_certificates("host") == b"", "there is no store"
    store.write_bytes(public_pem() + PEM)
    assert wanted_certificates("host") == PEM
    store.write_bytes(public_pem())
    assert wanted_certificates("host") == b"", "the guest has those"


def test_the_file_of_ssl_cert_file_comes_before_the_systems(store, monkeypatch, tmp_path):
    store.write_bytes(to_pem([b"system's"]))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "mine.pem"))
    assert host_store() == [b"system's"], "there is no such file"
    for nothing in (b"", b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n"):
        (tmp_path / "mine.pem").write_bytes(nothing)
        assert host_store() == [b"system's"]
    (tmp_path / "mine.pem").write_bytes(PEM)
    assert host_store() == [DER]
    assert wanted_certificates("host") == PEM


def test_on_macos_two_keychains_are_asked(monkeypatch):
    asked = []

    def security(argv, *, timeout):
        asked.append((argv, timeout))
        return SimpleNamespace(stdout=PEM + PEM)

    on(monkeypatch, "darwin")
    monkeypatch.setattr(process, "run", security)
    assert host_store() == [DER]
    assert asked == [(["/usr/bin/security", "find-certificate", "-a", "-p", *certificates._KEYCHAINS], 20.0)]

    def refuses(argv, *, timeout):
        raise HostvmError("security fails", str(argv), f"again, after {timeout} s")

    monkeypatch.setattr(process, "run", refuses)
    assert list(host_store()) == []


def test_on_windows_those_count_that_are_trusted_for_servers(monkeypatch):
    servers, mail = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4"
    stores = {
        "ROOT": [(b"all", "x509_asn", True), (b"mail", "x509_asn", {mail}), (b"bundle", "pkcs_7_asn", True)],
        "CA": [(b"all", "x509_asn", True), (b"servers", "x509_asn", {mail, servers}), (b"nothing", "x509_asn", False)],
    }
    on(monkeypatch, "win32")
    monkeypatch.setattr(certificates.ssl, "enum_certificates", stores.__getitem__, raising=False)
    assert host_store() == [b"all", b"servers"]
