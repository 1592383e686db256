"""Against what minisign 0.11 itself made; the other way round is checked in tests/vm with the program."""

from __future__ import annotations

import base64

import pytest

from images.artefact.minisign import new_key, parse_public, parse_secret, parse_signature
from images.errors import SignatureError

PUBLIC = """\
untrusted comment: minisign public key 40EAAC8C58525184
RWSEUVJYjKzqQAfBwScwI/rnApjcdXRfnyLSWCIZ72lTNZv+cqn0LXt0
"""
SECRET = (
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAhFFSWIys6kDT0mFy/PxLUm0vgc/OfkG1Ha8Pl5ti"
    "HJJLNgMJtvjPpAfBwScwI/rnApjcdXRfnyLSWCIZ72lTNZv+cqn0LXt0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
)
HELLO = """\
untrusted comment: signature from minisign secret key
RUSEUVJYjKzqQFBQQTgprL4I6H6YEaNh+4IrFPlKwfp5z6ADq5HRK6L/UzV4Aktv+YMB93boqaT6lR60rhK6Oe9u97wVOmenSAM=
trusted comment: what was signed
YCKJpsmtrVQrbOVhfMzj8gwQEMR8vxbJLZgGozOHueVl/o4DzLuYjxJdUCqAC89MDr+vVl8Ki+p/tZUh5ojkBw==
"""
HELLO_OLD = """\
untrusted comment: signature from minisign secret key
RWSEUVJYjKzqQEaMYEAJb2dyp8GnDCvmODO2UwgCoO8W0TQD+s8BjbXS0aiMgDq67ClTDa34KuQjYveUUIYWbc2HyRSOZxk4QA8=
trusted comment: legacy
5hj+ti9bbk8B0cOBsFvb//IkkBLCFbXYB+JJijCnTkoUJdqLFMUVuD0WytRCacfJzFWnHmgwynevJsQ/PcsCAg==
"""


def test_keys_and_signatures_that_minisign_made():
    key = parse_public(PUBLIC, "m.pub")
    assert (key.ident, key.file) == ("40EAAC8C58525184", PUBLIC)
    assert parse_public(PUBLIC.splitlines()[1], "the line alone") == key
    for text, comment in ((HELLO, "what was signed"), (HELLO_OLD, "legacy")):
        signature = parse_signature(text)
        assert signature.comment == comment
        assert signature.is_by(key, b"hello\n")
        assert not signature.is_by(key, b"hallo\n")


def test_our_signature_with_their_key_is_theirs_but_for_the_first_line():
    assert parse_secret(SECRET, "m.key").sign(b"hello\n", "what was signed").splitlines()[1:] == HELLO.splitlines()[1:]


def test_a_new_key_is_read_back():
    key = new_key()
    assert parse_secret(key.file, "k").file == key.file
    assert parse_secret(key.file, "k").public == key.public == parse_public(key.public.file, "p")
    assert parse_signature(key.sign(b"x", "c")).is_by(key.public, b"x")
    assert key.file.splitlines()[1] not in repr(key)


@pytest.mark.parametrize("line", range(1, 4))
def test_a_changed_signature_is_not_good(line):
    """The signature, the trusted comment and its seal: each is covered."""
    lines = HELLO.splitlines()
    lines[line] = "trusted comment: what was not" if line == 2 else lines[line][:30] + "AAAA" + lines[line][34:]
    assert not parse_signature("\n".join(lines)).is_by(parse_public(PUBLIC, "p"), b"hello\n")


@pytest.mark.parametrize("text", ["", "RW", PUBLIC.replace("RW", "QW"), "a\nb\nc\n", PUBLIC * 100, SECRET])
def test_what_is_no_public_key(text):
    with pytest.raises(SignatureError, match="x is not a minisign public key"):
        parse_public(text, "x")


@pytest.mark.parametrize(
    "text", ["", HELLO.replace("trusted comment: what", "what"), "\n".join(HELLO.splitlines()[:3])]
)
def test_what_is_no_signature(text):
    with pytest.raises(SignatureError, match="cannot be read"):
        parse_signature(text)


def test_what_is_no_usable_secret_key():
    raw = bytearray(base64.b64decode(SECRET.splitlines()[1]))
    locked, damaged = bytearray(raw), bytearray(raw)
    locked[2:4], damaged[70] = b"Sc", damaged[70] ^ 1
    for data, words in ((locked, "locked by a password"), (damaged, "damaged"), (raw[:-1], "not a minisign secret")):
        with pytest.raises(SignatureError, match=words):
            parse_secret(f"comment\n{base64.b64encode(data).decode()}\n", "k")
