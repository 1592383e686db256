"""Answering a registry's challenges: Basic, and Bearer by a token from the realm it names.

https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/. Credentials go to the registry and to its
realm, never to where a download is redirected, and never over plain HTTP to another computer unless that was asked
for.
"""

from __future__ import annotations

import base64
import io
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from images.errors import RegistryError
from images.patience import status_text
from images.registry.reference import is_loopback, login_name

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = (10.0, 30.0)
MOST_TOKEN = 1 << 20
UNAUTHORIZED, TOO_MANY, SERVER_FAULT = 401, 429, 500
_USUAL_PORTS = {"http": ":80", "https": ":443"}
# Of challenges in one header (RFC 9110, 11.6.1): a parameter, or the scheme of the next one and what is no parameter.
_PARAMETER_OR_SCHEME = re.compile(r'([\w.~+-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?([^\s,]*)', re.ASCII)
_ESCAPED = re.compile(r"\\(.)")
_SCHEMES = ("bearer", "basic")
"""Those that can be answered, the better one first."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who to log in as; none of it is ever shown.

    :param identity_token: instead of a password, what `docker login` got from some registries.
    """

    username: str = field(repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme (`basic`, `bearer` or empty) and its parameters: of several, the best one that can be answered."""
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for match in _PARAMETER_OR_SCHEME.finditer(header):
        name, quoted, bare, rest = match.groups()
        if quoted is not None or bare is not None:
            parameters.setdefault(name.lower(), bare or _ESCAPED.sub(r"\1", quoted or ""))
        elif not rest:
            parameters = found.setdefault(name.lower(), {})
    return next(((scheme, found[scheme]) for scheme in _SCHEMES if scheme in found), ("", {}))


def origin(url: str) -> tuple[str, str]:
    """Scheme and host, with its port unless the scheme says that."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower().removesuffix(_USUAL_PORTS.get(parts.scheme, ""))


class RegistryAuth(AuthBase):
    """Sends what the registry asked for, and asks anew when a token has run out. Threads may share one.

    :param base: the registry's address; nothing is sent to another.
    :param scope: e.g. repository:team/docker:pull
    :param credentials: asked once, when first needed.
    :param plain: plain HTTP is allowed for a realm on another computer.
    """

    def __init__(
        self,
        base: str,
        scope: str,
        credentials: Callable[[], Credentials | None],
        session: requests.Session,
        *,
        plain: bool,
    ) -> None:
        self._origin = origin(base)
        self._scope = scope
        self._lookup = credentials
        self._session = session
        self._plain = plain
        self._header = ""
        self._known: Credentials | None = None
        self._asked = False
        self._lock = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Called by requests before it sends."""
        if origin(request.url or "") == self._origin:
            if self._header:
                request.headers["Authorization"] = self._header
            request.hooks["response"].append(self._on_response)
        return request

    def _on_response(self, response: requests.Response, **options: Any) -> requests.Response:
        # Redirects carry the hook along, so the address is looked at again.
        if response.status_code != UNAUTHORIZED or origin(response.url) != self._origin:
            return response
        used = response.request.headers.get("Authorization", "")
        with self._lock:
            if self._header in ("", used):
                self._header = self._answer(response.headers.get("WWW-Authenticate", ""))
            header = self._header
        if not header or header == used:
            return response
        response.content  # noqa: B018 - read to its end, the connection can be used again
        response.close()
        again = response.request.copy()
        again.hooks = {"response": []}
        again.headers["Authorization"] = header
        if isinstance(again.body, io.IOBase):
            again.body.seek(0)  # it was sent to its end
        answer: requests.Response = response.connection.send(again, **options)
        answer.history.append(response)
        answer.request = again
        return answer

    def _answer(self, challenge: str) -> str:
        scheme, parameters = parse_challenge(challenge)
        known = self._credentials()
        if scheme == "basic":
            return _basic(known) if known and known.password else ""
        if scheme == "bearer" and parameters.get("realm"):
            return f"Bearer {self._token(parameters, known)}"
        return ""

    def _credentials(self) -> Credentials | None:
        if not self._asked:
            self._known, self._asked = self._lookup(), True
        return self._known

    def _token(self, parameters: dict[str, str], known: Credentials | None) -> str:
        """:raises RegistryError: there is none for these credentials.
        :raises requests.ConnectionError: the realm does not answer, or fails; another try may help.
        """
        realm = parameters["realm"]
        scheme, host = origin(realm)
        if scheme != "https" and not (scheme == "http" and (self._plain or is_loopback(host))):
            raise RegistryError(
                f"the registry wants credentials at {scheme}://{host}, which is not encrypted",
                None,
                "Ask its keeper for HTTPS; or, if nobody can listen there: add `--insecure`",
            )
        query = {"scope": self._scope, "service": parameters.get("service", "")}
        options: dict[str, Any] = {"timeout": TIMEOUT, "allow_redirects": False, "auth": no_auth}
        try:
            if known and known.identity_token:
                form = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "hostvm"}
                answer = self._session.post(realm, data={**query, **form}, **options)
            else:
                headers = {"Authorization": _basic(known)} if known and known.password else {}
                answer = self._session.get(realm, params=query, headers=headers, **options)
        except requests.exceptions.SSLError as error:
            raise RegistryError(f"cannot get a token from {scheme}://{host}", type(error).__name__, _LOOK) from error
        except requests.RequestException as error:  # of which the text may hold what was sent
            raise requests.ConnectionError(f"no token from {scheme}://{host}: {type(error).__name__}") from None
        if answer.status_code >= SERVER_FAULT or answer.status_code == TOO_MANY:
            said = f"no token from {scheme}://{host}: {status_text(answer)}"
            raise requests.ConnectionError(said, response=answer)
        token = _read_token(answer)
        if not token:
            raise RegistryError(
                f"{scheme}://{host} gives no token for {self._scope}",
                f"{answer.status_code} {answer.reason}",
                f"Log in with an account that may do this: `docker login {login_name(self._origin[1])}`",
            )
        return token


_LOOK = "Check the network, then try again"


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Instead of the session's, and of ~/.netrc."""
    return request


def _basic(known: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{known.username}:{known.password}".encode()).decode()


def _read_token(answer: requests.Response) -> str:
    if not answer.ok or len(answer.content) > MOST_TOKEN:
        return ""
    try:
        data = answer.json()
    except ValueError:
        return ""
    token = (data.get("token") or data.get("access_token")) if isinstance(data, dict) else None
    return token if isinstance(token, str) and token.isprintable() and token.isascii() else ""
