"""One repository of a registry: manifests, blobs in both directions, chunked and continued where they ended.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md; the numbers in brackets are its sections' ends.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

import requests
import urllib3

from images.answers import BoundedAdapter, pieces
from images.archive.fetch import Fetcher, Source
from images.artefact.layout import INDEX_TYPE
from images.errors import RegistryError
from images.oci import MANIFEST_TYPE
from images.patience import Patience, status_text
from images.registry.auth import RegistryAuth, no_auth, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from images.artefact.layout import Blob
    from images.registry.auth import Credentials
    from images.registry.reference import Reference

_T = TypeVar("_T")

WORKERS = 4
TIMEOUT = (10.0, 60.0)
MANIFEST_MOST = 4 << 20
OK, CREATED, ACCEPTED, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 201, 202, 401, 403, 404
TOO_MANY, SERVER_FAULT = 429, 500
_ACCEPT = f"{MANIFEST_TYPE}, {INDEX_TYPE}, */*"
"""docker-registry says of what is not named here that it is not there, whatever `*/*` says."""
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry.

    :param credentials: called once, when the registry wants some.
    :param insecure: plain HTTP, and certificates that nobody vouches for, also for other computers.
    :param ca: a file of certificates to trust instead of the system's.
    """

    credentials: Callable[[], Credentials | None]
    insecure: bool = False
    ca: Path | None = None
    patience: Patience = field(default_factory=Patience)

    def telling(self, note: Callable[[str], None]) -> Access:
        """The same, with one line for each wait that the registry asks for."""
        return replace(self, patience=replace(self.patience, note=note))


class _Session(requests.Session):
    """requests lets REQUESTS_CA_BUNDLE win over the session's own `verify`, ~/.netrc speak for whoever a download is
    redirected to, and what is sent be sent again to whoever a registry names; here what the user typed wins, logins are
    the registry's, and it alone is given anything.
    """

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        own = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, own, cert)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """For a redirect: what was sent is taken off for another host, and nothing of ~/.netrc put in its place."""
        if origin(response.request.url or "") != origin(prepared_request.url or ""):
            prepared_request.headers.pop("Authorization", None)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a redirect leads; None when it is not followed: what a push sends stays at the registry."""
        target, sent = super().get_redirect_target(resp), resp.request
        if target is None or sent.method in ("GET", "HEAD"):
            return target
        return target if origin(urljoin(sent.url or "", target)) == origin(sent.url or "") else None


class Repository:
    """A repository that was reached. Threads may share one.

    :param actions: `pull` or `pull,push`.
    """

    def __init__(self, reference: Reference, access: Access, actions: str) -> None:
        self.reference = reference
        self.access = access
        self.session = _new_session(reference, access)
        self._base = self._reach()
        scope = f"repository:{reference.name}:{actions}"
        self.session.auth = RegistryAuth(self._base, scope, access.credentials, self.session, plain=access.insecure)

    def url(self, path: str) -> str:
        """The address of something in the repository."""
        return f"{self._base}/v2/{self.reference.name}/{path}"

    def manifest(self, reference: Reference | None = None) -> bytes:
        """The OCI manifest that the reference means; one named by digest is checked.

        :param reference: another one of this repository.
        :raises RegistryError: there is none, or it is another.
        """
        wanted = reference or self.reference
        data = self._small(self.url(f"manifests/{wanted.selector}"), MANIFEST_MOST)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if wanted.digest not in ("", digest):
            raise RegistryError(
                f"{wanted.host} answers with another manifest than {wanted.digest}",
                f"It has the digest {digest}.",
                "Do not use it; tell the registry's keeper",
            )
        return data

    def blob(self, blob: Blob) -> bytes:
        """A small blob, checked.

        :raises RegistryError: missing, or it is another.
        """
        data = self._small(self.url(f"blobs/sha256:{blob.sha256}"), blob.size)
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise RegistryError(
                f"{blob.title or 'the manifest'} of {self.reference} is not what its digest promises",
                None,
                "Push the image again, or tell the registry's keeper",
            )
        return data

    def has(self, blob: Blob) -> bool:
        """Whether the registry holds the blob already."""
        return self.send("HEAD", self.url(f"blobs/sha256:{blob.sha256}"), (OK, NOT_FOUND)).status_code == OK

    def put_manifest(self, data: bytes) -> None:
        """Give the manifest the reference's tag.

        :raises RegistryError: the registry does not answer for long, refuses, or made another of it.
        """
        address = self.url(f"manifests/{self.reference.selector}")
        headers = {"Content-Type": MANIFEST_TYPE}
        answer = self._persist(lambda: self.send("PUT", address, (CREATED,), data=data, headers=headers))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if answer.headers.get("Docker-Content-Digest", digest) != digest:
            raise RegistryError(f"{self.reference.host} changed the manifest", None, "Use another registry")

    def fetcher(self, cache: Path) -> Fetcher:
        """Downloads blobs: parallel, resumed, checked; see `Fetcher`."""
        source = Source(RegistryError, "registry", "the manifest", "Check the network, then try again: it goes on")
        return Fetcher(cache, self.session, self.access.patience, WORKERS, source)

    def locate(self, answer: requests.Response) -> str:
        """Where an upload goes on; never at another host, which would be sent the image and the credentials.

        :raises RegistryError: nowhere, or elsewhere.
        """
        location = urljoin(answer.url, answer.headers.get("Location", ""))
        if not answer.headers.get("Location") or origin(location) != origin(self._base):
            raise self._elsewhere(location)
        return location

    def send(
        self, method: str, url: str, wanted: tuple[int, ...], headers: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """One request whose status must be one of `wanted`.

        :raises RegistryError: another one, of which the details say what the registry wrote; or what was sent is
            wanted elsewhere.
        :raises requests.RequestException: no answer; another try may help.
        """
        sent = {"Accept-Encoding": "identity", "Accept": _ACCEPT, **(headers or {})}
        response = self.session.request(method, url, headers=sent, timeout=TIMEOUT, **options)
        if response.status_code in wanted:
            return response
        if response.is_redirect:
            raise self._elsewhere(urljoin(response.url, response.headers["Location"]))
        if response.status_code >= SERVER_FAULT or response.status_code == TOO_MANY:
            raise requests.ConnectionError(status_text(response), response=response)
        raise self._refusal(response)

    def _small(self, url: str, most: int) -> bytes:
        def read() -> bytes:
            with self.send("GET", url, (OK,), stream=True) as response:
                data = b""
                for chunk in pieces(response):
                    data += chunk
                    if len(data) > most:
                        raise RegistryError(
                            f"{self.reference} is too long", f"More than {most} bytes came from {url}", _KEEPER
                        )
                return data

        return self._persist(read)

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        """Repeat an attempt while its failure may pass.

        :raises RegistryError: it did not.
        """
        patience, started, number = self.access.patience, time.monotonic(), 0
        while True:
            number += 1
            try:
                return attempt()
            except requests.RequestException as error:
                if patience.is_over(number, started, error):
                    raise unreachable(self.reference, error) from error
                failed = error
            patience.rest(patience.pause * 2 ** (number - 1), self._base, failed)

    def _reach(self) -> str:
        """The registry's address; plain HTTP where that is allowed and HTTPS is not spoken."""
        host = self.reference.api_host
        schemes = ["https", "http"] if self.access.insecure or self.reference.is_loopback else ["https"]
        for scheme in schemes:
            try:
                # No redirects: where the API is must not be decided by somebody else.
                self.session.get(f"{scheme}://{host}/v2/", timeout=TIMEOUT, allow_redirects=False).close()
            except (requests.RequestException, OSError) as error:
                fault = error
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    break  # it does speak TLS
            else:
                return f"{scheme}://{host}"
        raise unreachable(self.reference, fault) from fault

    def _elsewhere(self, location: str) -> RegistryError:
        scheme, host = origin(location)
        return RegistryError(
            f"{self.reference.host} sends an upload to {host or 'nowhere'}",
            f"What is pushed goes to {self._base} alone, not to {scheme}://{host}." if host else None,
            "Use the registry's own name; behind a proxy it must be told its outer address",
        )

    def _refusal(self, response: requests.Response) -> RegistryError:
        host, status = self.reference.host, response.status_code
        details = f"{status} {response.reason}{_said(response)}"
        if status in (UNAUTHORIZED, FORBIDDEN):
            return RegistryError(
                f"{host} refuses access to {self.reference.name}",
                details,
                f"Log in with an account that may do this: `docker login {host}`",
            )
        if status == NOT_FOUND:
            return RegistryError(f"there is no {self.reference}", details, "Look at its name and tag; names are exact")
        return RegistryError(f"{host} refuses {self.reference.name}", details, _KEEPER)


_KEEPER = "Look into the registry's log, or ask its keeper"


def unreachable(reference: Reference, error: Exception) -> RegistryError:
    """The registry does not answer."""
    hint = "Check its name and the network"
    if getattr(getattr(error, "response", None), "status_code", 0) == TOO_MANY:
        hint = f"Run the same command again later; who is logged in may ask for more: `docker login {reference.host}`"
    if isinstance(error, requests.exceptions.SSLError):
        hint = "Name its certificate's authority: `--cacert FILE`; if it speaks plain HTTP and may: `--insecure`"
    return RegistryError(f"cannot reach the registry {reference.host}", str(error)[:_SHOWN], hint)


def _said(response: requests.Response) -> str:
    """The registry's own words, which are JSON if all is well."""
    try:
        errors = json.loads(response.content[:MANIFEST_MOST])["errors"]
        words = "; ".join(f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f": {re.sub(r'[^ -~]', '?', words)[:_SHOWN]}" if words else ""


def _new_session(reference: Reference, access: Access) -> requests.Session:
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(pool_connections=WORKERS, pool_maxsize=WORKERS))
    session.headers["User-Agent"] = "hostvm"
    session.auth = no_auth  # until it is known what the registry asks for
    session.trust_env = not reference.is_loopback  # no proxy leads to this computer
    if access.ca is not None:
        session.verify = str(access.ca)
    elif access.insecure:
        session.verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user just said so
    return session
