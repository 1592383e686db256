"""Certificate files and what of a store is a company's own."""

from __future__ import annotations

from pathlib import Path

import certifi
import pytest

from hostvm.errors import SpecError
from hostvm.net.certificates import own_authorities, read_file, split_pem, to_pem, wanted_certificates

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
