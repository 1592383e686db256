"""Questions of the guest's docker client, answered by a helper of this computer that is played here."""

from __future__ import annotations

import json

import pytest

from hostvm import credential_helpers
from hostvm.net import credentials
from hostvm.net.credentials import CredentialService, Offer, answer, offered
from hostvm.process import Result
from runtime.docker.client_config import merge_helpers
from runtime.podman.logins import logins_files

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
    assert offered() == Offer(store=True)
    config["credsStore"] = "../evil"
    assert offered() == Offer(servers=("other.test",))
    del config["credHelpers"]
    assert not offered()
    assert answer("get", b"r.test") == b"1\ncredentials not found in native keychain\n"
    config |= {"credsStore": "ring", "credHelpers": {"other.test": "cloud"}}
    monkeypatch.setattr(credential_helpers, "find_program", lambda _: None)
    assert not offered()


def test_helpers_of_single_registries_are_enough_where_they_can_be(config):
    del config["credsStore"]
    config["credHelpers"] |= {"third.test": "../evil", "fourth.test": None}
    assert offered() == Offer(servers=("other.test",))
    config["credHelpers"] = ["other.test"]
    assert not offered()


def test_podmans_name_of_docker_hub_is_dockers_here(config, asked):
    login = {"ServerURL": "docker.io", "Username": "anna", "Secret": "hunter2"}
    assert answer("get", b"docker.io") == b"0\n" + LOGIN
    assert answer("store", json.dumps(login).encode()) == b"0\n"
    hub = "https://index.docker.io/v1/"
    assert asked[0] == (("docker-credential-ring", "get"), hub.encode())
    assert json.loads(asked[1][1]) == {**login, "ServerURL": hub}


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
    all_of_them, none = Offer(store=True), Offer()
    told = merge_helpers('{"auths": {}}', all_of_them)
    assert json.loads(told) == {"auths": {}, "credsStore": "hostvm"}
    assert merge_helpers(told, all_of_them) is None
    assert json.loads(merge_helpers(told, none)) == {"auths": {}}
    assert merge_helpers('{"credsStore": "pass"}', all_of_them) is None
    assert merge_helpers("", none) is None


def test_single_registries_come_and_go_and_what_was_chosen_in_the_guest_stays():
    own = '{"credHelpers": {"a.test": "pass"}}'
    told = merge_helpers(own, Offer(servers=("a.test", "b.test")))
    assert json.loads(told) == {"credHelpers": {"a.test": "pass", "b.test": "hostvm"}}
    assert merge_helpers(told, Offer(servers=("b.test",))) is None
    assert json.loads(merge_helpers(told, Offer())) == json.loads(own)
    changed = json.loads(merge_helpers(told, Offer(store=True)))
    assert changed == {"credHelpers": {"a.test": "pass"}, "credsStore": "hostvm"}
    assert merge_helpers('{"credsStore": "pass"}', Offer(servers=("b.test",))) is None


def test_podman_keeps_no_login_beside_a_store_for_all():
    assert logins_files(Offer(store=True)) == {"engine/logins.conf": b'credential-helpers = ["hostvm"]\n'}
    assert logins_files(Offer(servers=("b.test",))) == {}
