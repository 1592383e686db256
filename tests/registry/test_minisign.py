"""minisign itself and hostvm believe each other's keys and signatures."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from images.artefact.minisign import parse_public, parse_secret, parse_signature
from images.errors import SignatureError

pytestmark = pytest.mark.skipif(shutil.which("minisign") is None, reason="this system's archive has no minisign")


def minisign(*words, status: int = 0, **options) -> str:
    done = subprocess.run(["minisign", *words], capture_output=True, text=True, check=False, timeout=60, **options)
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    return done.stdout


def test_minisign_checks_what_hostvm_signed(ring, tmp_path):
    content, signature, public = tmp_path / "manifest.json", tmp_path / "sig", ring.folder / "team.pub"
    content.write_bytes(b"{}\n")
    signature.write_text(ring.secret("team").sign(content.read_bytes(), "who and what"))
    assert "who and what" in minisign("-V", "-m", content, "-x", signature, "-p", public)
    content.write_bytes(b"{ }\n")
    minisign("-V", "-m", content, "-x", signature, "-p", public, status=1)


def test_minisign_signs_with_a_key_of_hostvm(ring, tmp_path):
    content, signature = tmp_path / "manifest.json", tmp_path / "sig"
    content.write_bytes(b"{}\n")
    minisign("-S", "-s", ring.folder / "team.key", "-m", content, "-x", signature)
    assert ring.judge(b"{}\n", [signature.read_text()]).signer
    with pytest.raises(SignatureError, match="is false"):
        ring.judge(b"{ }\n", [signature.read_text()])


def test_hostvm_signs_with_a_key_of_minisign(ring, tmp_path):
    public, secret = tmp_path / "m.pub", tmp_path / "m.key"
    minisign("-G", "-W", "-p", public, "-s", secret)
    key = parse_secret(secret.read_text(), "m.key")
    assert key.public == parse_public(public.read_text(), "m.pub")
    assert parse_signature(key.sign(b"x", "c")).is_by(key.public, b"x")
