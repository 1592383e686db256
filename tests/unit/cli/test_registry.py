"""The words of `hostvm registry start`: what they make of the settings."""

from __future__ import annotations

import io
from dataclasses import replace

import bcrypt
import pytest

from cli.commands import registry
from cli.manage import build_parser
from hostvm.errors import UsageError
from hostvm.spec import default_spec
from runtime.registry.wanted import HUB, Wanted

BEFORE = Wanted(port=5003, user="alice", hashed="$2b$05$x", secret="s")


def wanted(*words, before=BEFORE):
    options = build_parser().parse_args(["registry", "start", *words])
    return registry._wanted(before, options, "ci")


def test_what_is_not_named_stays():
    found, password = wanted()
    assert (found.on, found.port, found.user, found.hashed, found.secret) == (True, 5003, "alice", "$2b$05$x", "s")
    assert password == ""


def test_a_first_start_makes_a_secret_of_its_own():
    one, two = (wanted(before=Wanted())[0].secret for _ in range(2))
    assert len(one) == 64
    assert one != two


def test_a_password_is_made_up_and_only_its_hash_kept():
    found, password = wanted("--auth", "bob")
    assert len(password) >= 20
    assert bcrypt.checkpw(password.encode(), found.hashed.encode())
    assert password not in repr(found)


def test_a_password_is_read_to_the_end_of_its_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\r\nmore\n"))
    found, password = wanted("--auth", "bob", "--password-stdin")
    assert password == ""
    assert bcrypt.checkpw(b"correct horse", found.hashed.encode())


def test_tls_comes_stays_and_goes():
    first, _ = wanted("--tls")
    assert first.certificate.startswith("-----BEGIN CERTIFICATE-----")
    again, _ = wanted("--port", "5004", before=first)
    assert again.certificate == first.certificate
    assert wanted("--no-tls", before=first)[0].certificate == ""


def test_every_engine_asks_a_mirror_by_itself_and_a_rootless_docker_no_registry_of_its_own():
    mirror = Wanted(port=5003, mirror=HUB)
    usual = default_spec()
    for engine in ("docker", "podman", "containerd"):
        told = f"the engine asks it before {HUB}; pull as ever"
        assert registry._next_step(mirror, replace(usual, engine=engine)) == told
    apart = registry._next_step(Wanted(port=5003), replace(usual, rootless=True))
    assert "this one's engine, being rootless, does not reach it" in apart


def test_a_mirror_is_of_docker_hub_unless_named():
    assert wanted("--mirror", "--no-auth")[0].mirror == HUB
    found, _ = wanted("--mirror", "http://mirror.example:5000/", "--no-auth")
    assert found.mirror == "http://mirror.example:5000"
    assert wanted("--no-mirror", before=found)[0].mirror == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--port", "0"), "0 is not a port"),
        (("--port", "65536"), "65536 is not a port"),
        (("--auth", "a:b"), "cannot be a user's name"),
        (("--auth", ""), "cannot be a user's name"),
        (("--password-stdin",), "--password-stdin needs a user"),
        (("--auth", "bob", "--no-auth"), "not allowed with"),
        (("--mirror", "ci"), "ci is not the URL of a registry"),
        (("--mirror", "https://x.example/team"), "is not the URL of a registry"),
        (("--mirror",), "a mirror cannot ask for a password"),
    ],
)
def test_wrong_words_are_told(words, why):
    with pytest.raises(UsageError, match=why) as caught:
        wanted(*words)
    assert caught.value.resolution


@pytest.mark.parametrize("line", ["", "\n", "x" * 73 + "\n", "a\0b\n"])
def test_a_password_that_bcrypt_would_cut_is_refused(monkeypatch, line):
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    with pytest.raises(UsageError, match="empty or too long"):
        wanted("--auth", "bob", "--password-stdin")
