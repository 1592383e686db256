"""That credentials go where they should, and nowhere else."""

from __future__ import annotations

import io

import pytest
import requests
from requests.adapters import BaseAdapter

from images.errors import RegistryError
from images.registry.auth import Credentials, RegistryAuth, parse_challenge

BASIC = "Basic YW5uYTpzZWNyZXQ="  # anna:secret
SECRET = Credentials("anna", "secret")


class Web(BaseAdapter):
    """`routes`: address to a function of the request that returns (status, headers, body)."""

    def __init__(self, routes) -> None:
        super().__init__()
        self.routes, self.asked = routes, []

    def send(self, request, **kwargs):
        address = request.url.partition("?")[0]
        self.asked.append((address, request.headers.get("Authorization")))
        status, headers, body = self.routes[address](request)
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update({"Content-Length": str(len(body)), **headers})
        response.raw, response.connection = io.BytesIO(body), self
        return response

    def close(self) -> None:
        pass


def ask(url, routes, *, base="https://r.test", credentials=SECRET, plain=False):
    web, session = Web(routes), requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, web)
    session.auth = RegistryAuth(base, "repository:a:pull", lambda: credentials, session, plain=plain)
    return session.get(url), web.asked


def guard(challenge, wanted, answer=(200, {}, b"here")):
    def handle(request):
        if request.headers.get("Authorization") == wanted:
            return answer
        return 401, {"WWW-Authenticate": challenge}, b"no"

    return handle


def test_basic_is_sent_when_asked_for():
    answer, asked = ask("https://r.test/x", {"https://r.test/x": guard("Basic realm=x", BASIC)})
    assert answer.content == b"here"
    assert asked == [("https://r.test/x", None), ("https://r.test/x", BASIC)]


def test_a_token_comes_from_the_realm():
    routes = {
        "https://r.test/x": guard('Bearer realm="https://auth.test/token",service="s"', "Bearer abc"),
        "https://auth.test/token": lambda _: (200, {}, b'{"access_token": "abc"}'),
    }
    answer, asked = ask("https://r.test/x", routes)
    assert answer.content == b"here"
    assert asked[1] == ("https://auth.test/token", BASIC)


def test_of_several_challenges_one_is_answered_with_what_belongs_to_it():
    """requests has one header of several."""
    bearer, wanted = 'Bearer realm="https://auth.test/token",service="s"', "Bearer abc"
    routes = {"https://auth.test/token": lambda _: (200, {}, b'{"token": "abc"}')}
    for challenge in (f'{bearer}, Basic realm="r"', f'Negotiate, Basic realm="r", {bearer}'):
        answer, asked = ask("https://r.test/x", {**routes, "https://r.test/x": guard(challenge, wanted)})
        assert answer.content == b"here"
        assert asked[1] == ("https://auth.test/token", BASIC)
    assert ask("https://r.test/x", {"https://r.test/x": guard("Negotiate, Basic realm=x", BASIC)})[0].status_code == 200


def test_nothing_goes_to_where_a_download_is_redirected():
    """Not even when that place asks with a challenge of its own."""
    routes = {
        "https://r.test/x": guard("Basic realm=x", BASIC, (307, {"Location": "https://cdn.test/x"}, b"")),
        "https://cdn.test/x": lambda _: (401, {"WWW-Authenticate": "Basic realm=x"}, b"no"),
    }
    answer, asked = ask("https://r.test/x", routes)
    assert answer.status_code == 401
    assert [header for address, header in asked if "cdn" in address] == [None]


def test_nothing_goes_from_https_to_http():
    routes = {
        "https://r.test/x": guard("Basic realm=x", BASIC, (307, {"Location": "http://r.test/x"}, b"")),
        "http://r.test/x": lambda _: (401, {"WWW-Authenticate": "Basic realm=x"}, b"no"),
    }
    _, asked = ask("https://r.test/x", routes)
    assert [header for address, header in asked if address.startswith("http:")] == [None]


def test_a_realm_without_tls_is_refused():
    routes = {"https://r.test/x": guard('Bearer realm="http://auth.test/token"', "Bearer abc")}
    with pytest.raises(RegistryError, match="not encrypted"):
        ask("https://r.test/x", routes)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\nb"}', b"x" * (2 << 20)])
def test_what_is_no_token(body):
    routes = {
        "https://r.test/x": guard('Bearer realm="https://auth.test/token"', "Bearer abc"),
        "https://auth.test/token": lambda _: (200, {}, body),
    }
    with pytest.raises(RegistryError, match="gives no token for repository:a:pull") as error:
        ask("https://r.test/x", routes)
    assert "secret" not in str(error.value)
    assert error.value.resolution == "Log in with an account that may do this: `docker login r.test`"


def test_a_login_to_docker_hub_is_by_its_name():
    base = "https://registry-1.docker.io"
    routes = {
        f"{base}/x": guard('Bearer realm="https://auth.docker.io/token"', "Bearer abc"),
        "https://auth.docker.io/token": lambda _: (401, {}, b""),
    }
    with pytest.raises(RegistryError) as error:
        ask(f"{base}/x", routes, base=base)
    assert error.value.resolution == "Log in with an account that may do this: `docker login docker.io`"


def test_wrong_credentials_are_tried_once():
    answer, asked = ask("https://r.test/x", {"https://r.test/x": guard("Basic realm=x", "other")})
    assert answer.status_code == 401
    assert len(asked) == 2


def test_without_credentials_nothing_is_made_up():
    answer, asked = ask("https://r.test/x", {"https://r.test/x": guard("Basic realm=x", BASIC)}, credentials=None)
    assert (answer.status_code, asked) == (401, [("https://r.test/x", None)])


def test_secrets_are_not_shown():
    assert "secret" not in repr(Credentials("anna", "secret", "secret"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ("", {})),
        ("Negotiate", ("", {})),
        ("basic realm=x", ("basic", {"realm": "x"})),
        ('Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a:pull,push"',
         ("bearer", {"realm": "https://a/t?x=1,2", "service": "s", "scope": "repository:a:pull,push"})),
        ('Bearer realm="https://a/t",service="s", Basic realm="r"',
         ("bearer", {"realm": "https://a/t", "service": "s"})),
        ('Basic realm="r", Bearer realm="https://a/t?x=1"', ("bearer", {"realm": "https://a/t?x=1"})),
        ('Negotiate, Basic realm="Bearer realm"', ("basic", {"realm": "Bearer realm"})),
        (r'NTLM TlRMTVNTUAAC==, BASIC realm="a \"b\", Bearer"', ("basic", {"realm": 'a "b", Bearer'})),
        ('Bearer realm=https://a/t?x=1,service=""', ("bearer", {"realm": "https://a/t?x=1", "service": ""})),
        ("Bearer realm = 'x, Basic", ("bearer", {"realm": "'x"})),
        ("Negotiate YII=, Basic", ("basic", {})),
        ('Digest realm="a", nonce="b=="', ("", {})),
    ],
)  # fmt: skip
def test_challenges(header, expected):
    assert parse_challenge(header) == expected
