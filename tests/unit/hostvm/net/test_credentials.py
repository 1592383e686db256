"""Questions of the guest's docker client, answered by a helper of this computer that is played here."""

from __future__ import annotations

import json

import pytest

from hostvm import credential_helpers
from hostvm.net import credentials
from hostvm.net.credentials import CredentialService, answer, available
from hostvm.process import Result
from runtime.docker.client_config import merge_store

LOGIN = json.dumps({"ServerURL": "r.test:5000", "Username": "anna", "Secret": "hunter2"}).encode()


@pytest.fixture
def config(monkeypatch):
    found = {"credsStore": "ring", "credHelpers": {"other.test": "cloud"}}
    monkeypatch.setattr(credentials, "read_config", lambda: found)
    monkeypatch.setattr(credential_helpers, "find_program", lambda name: f"/bin/{name}")
    return found


@pytest.fixture
def asked(monkeypatch):
    """What helpers were asked."""
    seen: list[tuple[tuple[str, ...], bytes]] = []

    def run(argv, *, stdin, **_):
        seen.append((tuple(argv), stdin))
        return Result(tuple(argv), 0, LOGIN if argv[1] == "get" else b"", b"")

    monkeypatch.setattr(credential_helpers, "run", run)
    return seen


def test_each_action_goes_to_the_registrys_helper(config, asked):
    assert answer("store", LOGIN) == b"0\n"
    assert answer("get", b"r.test:5000") == b"0\n" + LOGIN
    assert answer("erase", b"other.test") == b"0\n"
    assert asked == [
        (("docker-credential-ring", "store"), LOGIN),
        (("docker-credential-ring", "get"), b"r.test:5000"),
        (("docker-credential-cloud", "erase"), b"other.test"),
    ]


@pytest.mark.parametrize(
    ("action", "words"), [("list", b""), ("../x", b"r"), ("store", b"{"), ("store", b"[]"), ("get", b"\xff")]
)
def test_other_questions_are_not_passed_on(config, asked, action, words):
    assert answer(action, words).startswith(b"1\n")
    assert asked == []


def test_without_a_helper_there_is_none_to_offer(config, monkeypatch):
    assert available()
    config["credsStore"] = "../evil"
    assert not available()
    assert answer("get", b"r.test") == b"1\ncredentials not found in native keychain\n"
    config["credsStore"] = "ring"
    monkeypatch.setattr(credential_helpers, "find_program", lambda _: None)
    assert not available()


class Stream:
    """A connection that brings its bytes in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.sent, self.closed = list(pieces), b"", False

    def recv(self, size):
        return self.pieces.pop(0) if self.pieces else b""

    def sendall(self, data):
        self.sent += data

    def close(self):
        self.closed = True


def test_a_question_may_come_in_pieces(config, asked):
    stream = Stream(b"ge", b"t\nr.test", b":5000\n")
    CredentialService()._serve(stream)
    assert stream.sent == b"0\n" + LOGIN
    assert stream.closed


def test_the_guests_client_is_told_and_a_store_of_its_own_stays():
    told = merge_store('{"auths": {}}', wanted=True)
    assert json.loads(told) == {"auths": {}, "credsStore": "hostvm"}
    assert merge_store(told, wanted=True) is None
    assert json.loads(merge_store(told, wanted=False)) == {"auths": {}}
    assert merge_store('{"credsStore": "pass"}', wanted=True) is None
    assert merge_store("", wanted=False) is None
