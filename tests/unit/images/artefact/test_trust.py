from __future__ import annotations

import errno
import io
import os

import pytest

from images.artefact.minisign import PublicKey, new_key
from images.artefact.trust import KeyRing, Verdict, read_public
from images.errors import SignatureError

CONTENT = b"manifest"


@pytest.fixture
def ring(tmp_path):
    return KeyRing(tmp_path / "keys")


def test_an_own_key_signs_and_is_trusted(ring):
    key = ring.new("team")
    signature = ring.secret("team").sign(CONTENT, "comment")
    assert ring.judge(CONTENT, [signature]) == Verdict(f"team ({key.public.ident})", "comment")
    assert ring.trusted() == [key]
    assert key.own
    if os.name == "posix":
        assert (ring.folder / "team.key").stat().st_mode & 0o777 == 0o600
        assert ring.folder.stat().st_mode & 0o777 == 0o700


def test_somebody_elses_key(ring, tmp_path):
    other = new_key()
    (tmp_path / "their.pub").write_bytes(other.public.file.replace("\n", "\r\n").encode())  # saved on Windows
    signature = other.sign(CONTENT, "")
    with pytest.raises(SignatureError, match="a key that is not trusted here: " + other.public.ident):
        ring.judge(CONTENT, [signature], allow_unsigned=True)
    key = ring.trust("their", read_public(tmp_path / "their.pub"))
    assert not key.own
    assert ring.judge(CONTENT, [signature]).signer == f"their ({other.public.ident})"
    assert ring.judge(CONTENT, [new_key().sign(CONTENT, ""), signature]).signer is not None
    ring.remove("their")
    with pytest.raises(SignatureError, match="not trusted"):
        ring.judge(CONTENT, [signature])


def test_unsigned_only_when_allowed(ring):
    with pytest.raises(SignatureError, match="the image is not signed") as error:
        ring.judge(CONTENT, [])
    assert "--allow-unsigned" in error.value.resolution
    assert ring.judge(CONTENT, [], allow_unsigned=True) == Verdict(None)


def test_a_false_signature_is_never_passed_over(ring):
    ring.new("good")
    ring.new("bad")
    signatures = [ring.secret("good").sign(CONTENT, ""), ring.secret("bad").sign(b"something else", "")]
    for order in (signatures, signatures[::-1]):
        with pytest.raises(SignatureError, match="the signature of bad on the image is false"):
            ring.judge(CONTENT, order, allow_unsigned=True)


def test_a_key_that_borrows_an_id(ring):
    mine = ring.new("mine")
    with pytest.raises(SignatureError, match="has the id of mine"):
        ring.trust("twin", PublicKey(mine.public.key_id, new_key().public.raw))
    assert ring.trust("again", mine.public) == mine


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a\nb"])
def test_names_that_are_no_names(ring, name):
    with pytest.raises(SignatureError, match="cannot be a key's name"):
        ring.new(name)
    with pytest.raises(SignatureError, match="there is no secret key"):
        ring.secret(name)
    with pytest.raises(SignatureError, match="there is no key"):
        ring.remove(name)


def test_a_key_is_never_overwritten(ring):
    ring.new("team")
    with pytest.raises(SignatureError, match="a key called team already"):
        ring.new("team")
    with pytest.raises(SignatureError, match="a key called team already"):
        ring.trust("team", new_key().public)


def test_a_damaged_key_file_is_told(ring):
    ring.new("team")
    (ring.folder / "team.pub").write_bytes(b"\xff\xfe")
    with pytest.raises(SignatureError, match="not a minisign public key") as caught:
        ring.judge(CONTENT, [])
    assert caught.value.resolution.startswith("Remove it: `hostvm image key rm team`")
    assert ring.owns("team")
    ring.remove("team")
    assert ring.new("team") in ring.trusted()


def test_half_a_pair_can_be_removed(ring):
    """As a command leaves it that is killed between the two."""
    ring.new("team")
    (ring.folder / "team.pub").unlink()
    with pytest.raises(SignatureError, match="a key called team already") as caught:
        ring.new("team")
    assert "`hostvm image key rm team`" in caught.value.resolution
    assert ring.owns("team")
    ring.remove("team")
    assert list(ring.folder.iterdir()) == []


@pytest.mark.parametrize("full_at", [1, 2])
def test_a_full_disk_leaves_no_part_of_a_key(ring, monkeypatch, full_at):
    ring.new("other")
    real, files = os.fdopen, []

    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fdopen(descriptor, *words, **more):
        files.append(descriptor)
        if len(files) < full_at:
            return real(descriptor, *words, **more)
        os.close(descriptor)
        return Full()

    monkeypatch.setattr(os, "fdopen", fdopen)
    with pytest.raises(OSError, match="No space left"):
        ring.new("team")
    assert sorted(path.name for path in ring.folder.iterdir()) == ["other.key", "other.pub"]
