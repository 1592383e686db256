"""URLs that point at this computer itself, as the guest has to spell them. Imports nothing heavy."""

from __future__ import annotations

PROXY_VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"})
"""Upper-case names of the variables that hold a proxy's URL."""


def split_host(url: str) -> tuple[str, str, str]:
    """A URL as (what is before the host, the host, what is behind it); `SCHEME://` and `USER:PASSWORD@` may miss."""
    scheme, mark, rest = url.rpartition("://")
    ends = [at for at in (rest.find(sign) for sign in "/?#") if at >= 0]
    authority, tail = (rest[: min(ends)], rest[min(ends) :]) if ends else (rest, "")
    user, at, place = authority.rpartition("@")
    if place.startswith("["):
        host, bracket, port = place.partition("]")
        host += bracket
    else:
        host, colon, port = place.partition(":")
        port = colon + port
    return f"{scheme}{mark}{user}{at}", host, port + tail


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this computer's loopback."""
    name = host.lower().rstrip(".")
    return name in ("localhost", "[::1]") or name.endswith(".localhost") or name.startswith("127.")


def seen_from_guest(url: str, computer: str) -> str:
    """`url`, with `computer` in the place of a loopback host; nothing else of it changes."""
    before, host, behind = split_host(url)
    return f"{before}{computer}{behind}" if is_loopback(host) else url
