"""One repository, whose registry is a function of the request."""

from __future__ import annotations

import io

import pytest
import requests
from requests.adapters import BaseAdapter

from images.errors import RegistryError
from images.patience import Patience
from images.registry import client
from images.registry.auth import Credentials
from images.registry.client import Access, Repository
from images.registry.reference import parse_reference


class Web(BaseAdapter):
    """`answer`: what the registry and its realm say to a request: status, headers, body."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer, self.asked = answer, []

    def send(self, request, **kwargs):
        self.asked.append((request.method, request.url, request.headers.get("Authorization", "")))
        status, headers, body = self.answer(request)
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update({"Content-Length": str(len(body)), **headers})
        response.raw, response.connection = io.BytesIO(body), self
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def reach(monkeypatch):
    """`reach(host, answer, ...)`: the repository HOST/a, and what was asked so far."""

    def make(host, answer, **options):
        web, session = Web(answer), requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, web)
        monkeypatch.setattr(client, "_new_session", lambda *_: session)
        access = Access(lambda: Credentials("anna", "secret"), patience=Patience(3, sleep=lambda _: None), **options)
        return Repository(parse_reference(f"{host}/a:1"), access, "pull"), web.asked

    return make


@pytest.fixture
def serve(monkeypatch):
    """`serve(answer)`: the sessions are hostvm's own; what was asked so far."""
    usual = client._new_session

    def make(answer):
        web = Web(answer)

        def session(*words):
            made = usual(*words)
            for scheme in ("http://", "https://"):
                made.mount(scheme, web)
            return made

        monkeypatch.setattr(client, "_new_session", session)
        return web.asked

    return make


def wants_token_of(realm):
    def answer(request):
        if request.url.startswith(realm):
            return 200, {}, b'{"token": "abc"}'
        if request.url.endswith("/v2/") or request.headers.get("Authorization") == "Bearer abc":
            return 200, {}, b"here"
        return 401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b"no"

    return answer


def test_a_registry_of_this_computer_sends_no_password_in_the_clear_to_another(reach):
    realm = "http://auth.test/token"
    repository, asked = reach("localhost:5000", wants_token_of(realm))
    with pytest.raises(RegistryError, match="not encrypted"):
        repository.manifest()
    assert not any(header.startswith("Basic") for _, _, header in asked)
    assert reach("localhost:5000", wants_token_of(realm), insecure=True)[0].manifest() == b"here"
    assert reach("localhost:5000", wants_token_of("http://127.0.0.1:5001/token"))[0].manifest() == b"here"


def fails(times, fault):
    """A registry that takes a manifest after so many faults: a status, or an exception of the connection."""
    left = [fault] * times

    def answer(request):
        if request.method != "PUT":
            return 200, {}, b""
        fault = left.pop() if left else 201
        if isinstance(fault, Exception):
            raise fault
        return fault, {}, b""

    return answer


@pytest.mark.parametrize("fault", [429, 503, requests.ConnectionError("cut"), requests.Timeout("slow")])
def test_a_manifest_is_sent_again_while_it_may_help(reach, fault):
    repository, asked = reach("r.test", fails(2, fault))
    repository.put_manifest(b"{}")
    assert [method for method, _, _ in asked].count("PUT") == 3
    repository, _ = reach("r.test", fails(3, fault))
    with pytest.raises(RegistryError, match=r"cannot reach the registry r\.test"):
        repository.put_manifest(b"{}")


@pytest.mark.parametrize("who", ["registry", "realm"])
def test_a_registry_that_asks_to_wait_is_left_alone_for_as_long(reach, who):
    usual = wants_token_of("https://auth.test/token")
    left, slept, notes = [429, 503], [], []

    def answer(request):
        asked = request.url.startswith("https://auth.test") if who == "realm" else "/manifests/" in request.url
        return (left.pop(), {"Retry-After": "20"}, b"") if left and asked else usual(request)

    repository, _ = reach("r.test", answer)
    patience = Patience(3, sleep=slept.append)
    repository.access = Access(repository.access.credentials, patience=patience).telling(notes.append)
    assert repository.manifest() == b"here"
    assert sum(slept) == 40
    assert len(notes) == 2
    assert all(note.startswith("r.test asks to wait: ") for note in notes)
    assert all(note.endswith("the next try is in 20 s, what came so far is kept") for note in notes)


def test_one_that_has_had_enough_of_us_is_no_matter_of_the_network(reach):
    late = {"Retry-After": "9000"}
    repository, _ = reach("r.test", lambda request: (429 if "/a/" in request.url else 200, late, b""))
    with pytest.raises(RegistryError) as error:
        repository.manifest()
    assert error.value.details == "429 None, and nothing else for 9000 s"
    assert error.value.resolution == (
        "Run the same command again later; who is logged in may ask for more: `docker login r.test`"
    )


@pytest.mark.parametrize("fault", [429, 503, requests.ConnectionError("cut"), requests.Timeout("slow")])
def test_a_token_is_asked_for_again_while_it_may_help(reach, fault):
    usual = wants_token_of("https://auth.test/token")
    left = [fault] * 2

    def answer(request):
        fault = left.pop() if left and request.url.startswith("https://auth.test") else None
        if isinstance(fault, Exception):
            raise fault
        return (fault, {}, b"") if fault else usual(request)

    repository, _ = reach("r.test", answer)
    assert repository.manifest() == b"here"
    repository, _ = reach("r.test", answer)
    left[:] = [fault] * 3
    with pytest.raises(RegistryError, match=r"cannot reach the registry r\.test") as error:
        repository.manifest()
    assert error.value.details.startswith("no token from https://auth.test: ")


def test_a_manifest_that_is_refused_is_not_sent_again(reach):
    repository, asked = reach("r.test", fails(1, 400))
    with pytest.raises(RegistryError, match="refuses a"):
        repository.put_manifest(b"{}")
    assert [method for method, _, _ in asked].count("PUT") == 1


def located(reach, host, location):
    repository, asked = reach(host, lambda _: (202, {"Location": location}, b""))
    place = repository.locate(repository.send("POST", repository.url("blobs/uploads/"), (202,)))
    repository.send("PATCH", place, (202,))
    return asked[-1]


@pytest.mark.parametrize("host", ["r.test:443", "r.test"])
@pytest.mark.parametrize("told", ["r.test", "r.test:443", "R.test"])
def test_a_usual_port_is_the_same_place_whether_it_is_said_or_not(reach, host, told):
    """No client says it in its Host header, from which registries make the addresses of uploads."""
    assert located(reach, host, f"https://{told}/up/1")[0] == "PATCH"


@pytest.mark.parametrize("told", ["http://r.test/1", "https://r.test:80/1", "https://r.test:1443/1", "https://443/1"])
def test_another_place_is_none_for_an_upload(reach, told):
    with pytest.raises(RegistryError, match=r"r\.test sends an upload to"):
        located(reach, "r.test", told)


def test_logins_go_along_to_the_usual_port(reach):
    def answer(request):
        if request.headers.get("Authorization") is None and not request.url.endswith("/v2/"):
            return 401, {"WWW-Authenticate": "Basic realm=x"}, b""
        return 202, {"Location": "https://r.test/up/1"}, b""

    repository, asked = reach("r.test:443", answer)
    place = repository.locate(repository.send("POST", repository.url("blobs/uploads/"), (202,)))
    repository.send("PATCH", place, (202,))
    assert asked[-1] == ("PATCH", "https://r.test/up/1", "Basic YW5uYTpzZWNyZXQ=")


@pytest.mark.parametrize("cdn", ["http://cdn.test/1", "https://cdn.test/1", "http://r.test/1", "https://r.test:444/1"])
def test_where_a_download_is_redirected_gets_no_login_of_netrc(monkeypatch, tmp_path, serve, cdn):
    (tmp_path / "netrc").write_text("default login anna password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def answer(request):
        if request.url == cdn:
            return 200, {}, b"blob"
        if request.headers.get("Authorization") == "Basic YmVuOnB3":
            return 307, {"Location": cdn}, b""
        return 401, {"WWW-Authenticate": "Basic realm=x"}, b""

    asked = serve(answer)
    repository = Repository(parse_reference("r.test/a:1"), Access(lambda: Credentials("ben", "pw")), "pull")
    assert repository.manifest() == b"blob"
    assert asked[-1] == ("GET", cdn, "")
    assert [header for _, url, header in asked if url != cdn] == ["", "", "Basic YmVuOnB3"]


ELSEWHERE = ("https://other.test/up", "http://r.test/up", "https://r.test:444/up", "//other.test/up")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_what_is_pushed_goes_nowhere_else(serve, method, place, status):
    asked = serve(lambda sent: (200, {}, b"") if sent.url.endswith("/v2/") else (status, {"Location": place}, b""))
    repository = Repository(parse_reference("r.test/a:1"), Access(lambda: None), "pull,push")
    with pytest.raises(RegistryError, match=r"r\.test sends an upload to") as error:
        repository.send(method, repository.url("blobs/uploads/"), (201, 202), data=io.BytesIO(b"image"))
    assert "to https://r.test alone" in error.value.details
    assert [method for method, _, _ in asked] == ["GET", method]


def test_a_registry_may_redirect_a_push_within_itself(serve):
    def answer(request):
        if request.url.endswith("/v2/"):
            return 200, {}, b""
        if request.url != "https://r.test/up/2":
            request.body.read()
            return 307, {"Location": "/up/2"}, b""
        return 202, {}, request.body.read()

    serve(answer)
    repository = Repository(parse_reference("r.test/a:1"), Access(lambda: None), "pull,push")
    assert repository.send("PATCH", "https://r.test/up/1", (202,), data=io.BytesIO(b"image")).content == b"image"
