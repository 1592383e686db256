"""A session of requests that sends no password for everybody to read.

requests sends what ~/.netrc has for a host to it over plain HTTP too, where everybody on the way reads it. Here that
goes over HTTPS, and to this computer; what stands in an address goes where it says: whoever typed that meant it so.
Proxies are the environment's, as always.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url, get_netrc_auth

from images.registry.reference import is_loopback


def is_in_the_clear(url: str) -> bool:
    """Whether others could read what is sent there."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not is_loopback(parts.netloc.rpartition("@")[2])


class LoginSession(requests.Session):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.auth = self._log_in  # with one of its own, requests does not look into ~/.netrc

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """For a redirect: what was sent is taken off for another host, which has its own."""
        url = prepared_request.url or ""
        if self.should_strip_auth(response.request.url or "", url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)
        if login := self._of_netrc(url):
            prepared_request.prepare_auth(login)

    def _log_in(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        named = get_auth_from_url(url)
        login = named if any(named) else self._of_netrc(url)
        return HTTPBasicAuth(*login)(request) if login else request

    def _of_netrc(self, url: str) -> tuple[str, str] | None:
        return None if is_in_the_clear(url) or not self.trust_env else get_netrc_auth(url)
