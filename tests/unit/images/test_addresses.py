"""Passwords that stand in addresses: of mirrors, and of what a recipe downloads."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import requests

from images.addresses import without_login
from images.archive import open_archive, suites_of
from images.archive.fetch import Wanted
from images.base import sources_list
from images.downloads import Download
from images.errors import HostvmError
from images.progress import NullProgress

LOGIN = "anna:geh%40eim"
NONE = NullProgress()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://{LOGIN}@m.test/debian", "http://m.test/debian"),
        (f"see https://{LOGIN}@m.test:8443 and https://token@x.test/a", "see https://m.test:8443 and https://x.test/a"),
        ("https://anna:a@b@m.test/a@b", "https://m.test/a@b"),
        ("https://m.test/pool/a@b.deb?x=y@z", "https://m.test/pool/a@b.deb?x=y@z"),
        ("https://m.test?x=y@z, anna@m.test", "https://m.test?x=y@z, anna@m.test"),
    ],
)
def test_what_is_shown_of_an_address(text, shown):
    assert without_login(text) == shown


def with_login(url: str) -> str:
    return url.replace("://", f"://{LOGIN}@")


def told(call, *words) -> str:
    with pytest.raises(HostvmError) as error:
        call(*words)
    return f"{error.value.brief}\n{error.value.details}\n{error.value.resolution}"


def test_no_failure_shows_it(archive, fetcher, adapter, stranger_key):
    url = with_login(f"{archive.mirror}/file")
    archive.write("file", b"other")
    wanted = Wanted("file", (url,), hashlib.sha256(b"x").hexdigest(), 5)
    said = [told(fetcher.fetch_all, [wanted], NONE, "files"), told(fetcher.read, url + "-none", 9)]
    said += [told(fetcher.fetch_all, [replace(wanted, urls=(url + "-none",))], NONE, "files")]
    said += [told(fetcher.read, url, 3), told(fetcher.read, with_login("http://localhost:99999/x"), 3)]
    adapter.faults = [requests.ConnectionError(f"no route to {url}")] * 3
    said.append(told(fetcher.read, url, 9))
    archive.add("hello")
    archive.publish(key=stranger_key)
    suites = suites_of("trixie", with_login(archive.mirror), ())
    said.append(told(lambda: open_archive(suites, "amd64", fetcher, NONE, keys=archive.keys)))
    assert [text for text in said if "geh" in text or "anna" in text] == []
    assert "http://mirror.test/debian" in said[-1]


def test_no_image_has_it():
    url = f"https://{LOGIN}@makers.test/tool.tar.gz"
    assert Download("0" * 64, url=url, to="x").facts()["url"] == "https://makers.test/tool.tar.gz"
    mirror = f"https://{LOGIN}@m.test/debian"
    assert sources_list("trixie", mirror) == sources_list("trixie", "https://m.test/debian")
