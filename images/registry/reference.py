"""REGISTRY/NAME:TAG and REGISTRY/NAME@sha256:…, as the distribution specification spells them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from images.errors import UsageError

DEFAULT_TAG = "latest"
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(:[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST = 255
# Docker Hub's images are named after a host that does not serve them.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


def login_name(api_host: str) -> str:
    """What `docker login` calls the registry whose API is there."""
    return next((name for name, host in _API_HOSTS.items() if host == api_host), api_host)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is in a registry.

    :param host: with its port, as the user typed it.
    :param tag: empty when there is a digest.
    :param digest: `sha256:…` of the OCI manifest, or empty.
    """

    host: str
    name: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def selector(self) -> str:
        """What the API asks for."""
        return self.digest or self.tag

    @property
    def api_host(self) -> str:
        """Who serves it."""
        return _API_HOSTS.get(self.host, self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this computer, where plain HTTP harms nobody."""
        return is_loopback(self.host)

    def at(self, digest: str) -> Reference:
        """The same name, by digest."""
        return Reference(self.host, self.name, "", digest)


def looks_like_reference(text: str) -> bool:
    """Whether a word can only be a registry reference: recipes and digests have no slash."""
    return "/" in text


def is_loopback(host: str) -> bool:
    """Whether a host, perhaps with a port, is this computer by its name or number."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_reference(text: str) -> Reference:
    """Read a reference; without tag and digest it is :latest.

    :raises UsageError: it is none.
    """
    host, slash, rest = text.partition("/")
    rest, at, digest = rest.partition("@")
    name, colon, tag = rest.partition(":")
    good = (
        slash
        and _HOST.fullmatch(host)
        and ("." in host or ":" in host or host == "localhost")
        and len(name) <= _MOST
        and _NAME.fullmatch(name)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    )
    if not good:
        raise UsageError(
            f"{text} is not an image in a registry",
            "Such a reference is REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, and REGISTRY has a dot or a port.",
            "For example: registry.example:5000/team/docker:1",
        )
    return Reference(host, name, "" if digest else tag or DEFAULT_TAG, digest)
