"""What a session tells whom: its other side is a function of the request."""

from __future__ import annotations

import base64
import io

import pytest
import requests
from requests.adapters import BaseAdapter

from images.archive import fetch
from images.archive.fetch import Fetcher
from images.errors import MirrorError
from images.patience import Patience


class Web(BaseAdapter):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer, self.asked, self.proxies = answer, [], {}

    def send(self, request, **options):
        kind, _, word = request.headers.get("Authorization", "").partition(" ")
        self.asked.append((request.url, base64.b64decode(word).decode() if kind == "Basic" else kind))
        self.proxies = options["proxies"]
        response = requests.Response()
        response.status_code, location = self.answer(request.url)
        response.url, response.request, response.reason = request.url, request, "so it is"
        response.headers["Location"] = location
        response.raw, response.connection = io.BytesIO(b"here"), self
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def web(monkeypatch, tmp_path):
    """`web(answer)`: a session as downloads have it; ~/.netrc knows some hosts."""
    hosts = ("mirror.test", "other.test", "localhost", "127.0.0.1", "::1")
    lines = [f"machine {host} login of password netrc\n" for host in hosts]
    (tmp_path / "netrc").write_text("".join(lines))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def make(answer=lambda _: (200, "")):
        session, served = fetch._new_session(4), Web(answer)
        for scheme in ("http://", "https://"):
            session.mount(scheme, served)
        return session, served

    return make


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://mirror.test/a", ""),
        ("http://mirror.test:8080/a", ""),
        ("https://mirror.test/a", "of:netrc"),
        ("https://unknown.test/a", ""),
        ("http://localhost:8000/a", "of:netrc"),
        ("http://127.0.0.1/a", "of:netrc"),
        ("http://[::1]:8000/a", "of:netrc"),
        ("http://anna:o%40k@mirror.test/a", "anna:o@k"),
        ("https://anna:ok@mirror.test/a", "anna:ok"),
        ("http://localhost@mirror.test/a", ""),
    ],
)
def test_passwords_of_netrc_are_for_nobody_who_listens(web, url, sent):
    session, served = web()
    assert session.get(url).content == b"here"
    assert served.asked == [(url, sent)]


@pytest.mark.parametrize(
    ("first", "place", "sent"),
    [
        ("https://mirror.test/a", "http://mirror.test/b", ["of:netrc", ""]),
        ("https://mirror.test/a", "http://other.test/b", ["of:netrc", ""]),
        ("https://mirror.test/a", "https://unknown.test/b", ["of:netrc", ""]),
        ("https://mirror.test/a", "https://other.test/b", ["of:netrc", "of:netrc"]),
        ("http://mirror.test/a", "https://mirror.test/b", ["", "of:netrc"]),
        ("http://anna:ok@mirror.test/a", "http://mirror.test/b", ["anna:ok", "anna:ok"]),
        ("http://anna:ok@mirror.test/a", "http://other.test/b", ["anna:ok", ""]),
    ],
)
def test_nor_for_where_they_are_redirected(web, first, place, sent):
    session, served = web(lambda url: (302, place) if url == first else (200, ""))
    session.get(first)
    assert served.asked == list(zip((first, place), sent, strict=True))


def test_proxies_are_those_of_the_environment(web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    session, served = web()
    session.get("http://mirror.test/a")
    assert served.proxies["http"] == "http://proxy.test:3128"


@pytest.mark.parametrize(("scheme", "told"), [("http", True), ("https", False)])
def test_who_is_not_let_in_is_told_of_it(web, cache, scheme, told):
    session, _ = web(lambda _: (401, ""))
    url = f"{scheme}://mirror.test/InRelease"
    with pytest.raises(MirrorError, match="there is no") as error:
        Fetcher(cache, session, Patience(1)).read(url, 100)
    assert ("passwords of ~/.netrc are sent over HTTPS only" in error.value.details) == told
