"""Keys of machine.yaml that concern names, networks and trust: their values' parsers.

Each raises ValueError with a reason that reads after "KEY: VALUE".
"""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

AUTO = "auto"
HOST, NONE = "host", "none"
NAMES_PORT = 7080
"""Where container names answer on this computer, unless machine.yaml says otherwise."""

_PORT_MAX = 65535
_SHORTEST_PREFIX, _LONGEST_PREFIX = 24, 27


def parse_ca(value: object) -> str:
    """`host`, `none`, or a file's absolute path (`~` allowed)."""
    if value in (HOST, NONE):
        return str(value)
    path = Path(_text(value)).expanduser()
    if not path.is_absolute():
        raise ValueError("must be host, none, or the absolute path of a PEM file")
    return str(path)


def parse_names(value: object) -> int:
    """A TCP port; 0 for none (`off`, which YAML reads as false)."""
    if value == "off" or value is False:
        return 0
    text = str(value)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _PORT_MAX):
        raise ValueError("must be a port from 1 to 65535, or off")
    return int(text)


def render_names(port: int) -> object:
    """What `parse_names` reads back."""
    return port or "off"


def parse_network(value: object) -> dict[str, str]:
    """`{subnet: auto|NETWORK}`."""
    found = _mapping(value, {"subnet": _subnet})
    return {"subnet": AUTO, **found}


def parse_registries(value: object) -> dict[str, list[str]]:
    """`{mirrors: [URL…], insecure: [HOST[:PORT]…]}`."""
    return _mapping(value, {"mirrors": _mirrors, "insecure": _insecure})


def parse_daemon(value: object) -> dict[str, Any]:
    """Settings for the engine's own configuration file; which ones, the engine decides."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping of the engine's own settings, as in its daemon.json")
    return value


def _mapping(value: object, known: dict[str, Callable[[object], Any]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping with: {', '.join(known)}")  # noqa: TRY004 - parsers speak so
    found = {}
    for key, entry in value.items():
        if key not in known:
            raise ValueError(f"has the unknown key {key}; known ones are {', '.join(known)}")
        found[str(key)] = known[key](entry)
    return found


def _subnet(value: object) -> str:
    if value == AUTO:
        return AUTO
    try:
        network = IPv4Network(_text(value))
    except ValueError as fault:
        raise ValueError(f"has no IPv4 network as subnet: {fault}") from None
    if not _SHORTEST_PREFIX <= network.prefixlen <= _LONGEST_PREFIX or not network.is_private:
        raise ValueError("needs a private subnet from /24 to /27, for example 10.0.2.0/24")
    return str(network)


def _mirrors(value: object) -> list[str]:
    found = _texts(value, "mirrors")
    for url in found:
        scheme, _, rest = url.partition("://")
        if scheme not in ("http", "https") or not rest or " " in url:
            raise ValueError(f"has the mirror {url}, which is no http(s) URL")
    return found


def _insecure(value: object) -> list[str]:
    found = _texts(value, "insecure")
    for host in found:
        if "://" in host or not host or " " in host:
            raise ValueError(f"has the insecure registry {host}, which should be HOST, HOST:PORT or a network")
    return found


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"needs a list of texts for {key}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - see above
    return value
