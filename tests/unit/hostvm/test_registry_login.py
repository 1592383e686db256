from __future__ import annotations

import base64
import json

import pytest

from hostvm import credential_helpers
from hostvm.errors import HostvmError, ImageError
from hostvm.process import Result
from hostvm.registry_login import find_credentials
from images.registry.auth import Credentials

AUTH = base64.b64encode(b"anna:se:cret").decode()


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return lambda data: (tmp_path / "config.json").write_text(data if isinstance(data, str) else json.dumps(data))


@pytest.fixture
def helper(monkeypatch):
    """What the helper answers, by what it is asked for; `asked` keeps that."""
    answers: dict[str, tuple[int, str]] = {}
    asked: list[tuple[str, str]] = []

    def run(argv, *, stdin, **_):
        asked.append((argv[0], stdin.decode()))
        status, text = answers.get(stdin.decode(), (1, "credentials not found in native keychain\n"))
        return Result(tuple(argv), status, text.encode(), b"")

    monkeypatch.setattr(credential_helpers, "run", run)
    return answers, asked


def test_nobody_logged_in(config):
    assert find_credentials("r.test") is None
    config({"auths": {"other.test": {"auth": AUTH}}, "HttpHeaders": []})
    assert find_credentials("r.test") is None


@pytest.mark.parametrize(
    ("host", "entry", "expected"),
    [
        ("r.test:5000", {"r.test:5000": {"auth": AUTH}}, Credentials("anna", "se:cret")),
        ("r.test", {"https://r.test": {"username": "a", "password": "b"}}, Credentials("a", "b")),
        ("docker.io", {"https://index.docker.io/v1/": {"auth": AUTH}}, Credentials("anna", "se:cret")),
        ("r.test", {"r.test": {"auth": AUTH, "identitytoken": "t"}}, Credentials("", identity_token="t")),
        ("r.test", {"r.test": {}}, None),
    ],
)
def test_the_file(config, host, entry, expected):
    config({"auths": entry})
    assert find_credentials(host) == expected


def test_the_variable_of_ci_systems(config, monkeypatch):
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"r.test": {"auth": AUTH}}}))
    assert find_credentials("r.test") == Credentials("anna", "se:cret")


def test_helpers(config, helper):
    answers, asked = helper
    config({"credsStore": "osxkeychain", "credHelpers": {"gcr.test": "gcloud"}, "auths": {"r.test": {}}})
    answers["r.test"] = (0, json.dumps({"Username": "anna", "Secret": "s"}))
    answers["https://gcr.test"] = (0, json.dumps({"Username": "<token>", "Secret": "t"}))
    assert find_credentials("r.test") == Credentials("anna", "s")
    assert find_credentials("gcr.test") == Credentials("", identity_token="t")
    assert find_credentials("none.test") is None
    assert asked[0] == ("docker-credential-osxkeychain", "r.test")
    assert ("docker-credential-gcloud", "https://gcr.test") in asked


@pytest.mark.parametrize("answer", [(1, "the secret store is locked: hunter2"), (0, "hunter2"), (0, "[]")])
def test_a_helper_that_fails_shows_no_secret(config, helper, answer):
    config({"credsStore": "pass"})
    helper[0]["r.test"] = answer
    if answer == (0, "[]"):
        assert find_credentials("r.test") is None
        return
    with pytest.raises(ImageError, match="credential helper pass does not answer") as error:
        find_credentials("r.test")
    assert "hunter2" not in str(error.value)


def test_a_helper_that_is_missing(config, monkeypatch):
    config({"credsStore": "pass"})

    def run(*_, **__):
        raise HostvmError("cannot start docker-credential-pass")

    monkeypatch.setattr(credential_helpers, "run", run)
    with pytest.raises(ImageError, match="does not answer"):
        find_credentials("r.test")


@pytest.mark.parametrize("name", ["../../evil", "a b", "a;b", "/bin/sh"])
def test_a_helper_is_a_name_and_no_path(config, helper, name):
    config({"credsStore": name})
    with pytest.raises(ImageError, match="is not a name"):
        find_credentials("r.test")
    assert helper[1] == []


@pytest.mark.parametrize("text", ["{", '{"auths": {"r.test": {"auth": "hunter2!"}}}', "\xff"])
def test_a_damaged_file_is_told_without_its_content(config, text):
    config(text)
    with pytest.raises(ImageError, match="cannot be read") as error:
        find_credentials("r.test")
    assert "hunter2" not in str(error.value)
    assert error.value.resolution == "Log in anew: `docker login r.test`"


@pytest.mark.parametrize("text", ["{", '{"auths": {"r.test": {"auth": "hunter2!"}}}'])
def test_damaged_logins_of_the_environment_are_advised_to_be_unset(config, monkeypatch, text):
    """Which no login would replace."""
    config({})
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    with pytest.raises(ImageError, match="DOCKER_AUTH_CONFIG cannot be read") as error:
        find_credentials("r.test")
    assert error.value.resolution == "Do without it: `unset DOCKER_AUTH_CONFIG`"
