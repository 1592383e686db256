"""Keys of machine.yaml that concern names, networks and trust: the kinds of their values."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from hostvm.config.kinds import Choice, Either, Free, Key, Keys, ListOf, MapOf, Text
from hostvm.files import user_path

AUTO = "auto"
HOST, NONE = "host", "none"
NAMES_PORT = 7080
"""Where container names answer on this computer, unless machine.yaml says otherwise."""

_PORT_MAX = 65535
_SHORTEST_PREFIX, _LONGEST_PREFIX = 24, 27


def _read_ca(text: str) -> str:
    if text in (HOST, NONE):
        return text
    path = user_path(text) if "\0" not in text else Path()
    if not path.is_absolute():
        raise ValueError("must be host, none, or the absolute path of a PEM file")
    return str(path)


def _read_names(value: object) -> int:
    """0 stands for none."""
    if value == "off" or value is False:  # YAML reads the word off as false
        return 0
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= _PORT_MAX):  # noqa: PLR2004
        raise ValueError("must be a port from 1 to 65535, or off")
    return int(text)


def render_names(port: int) -> object:
    """What `NAMES` reads back."""
    return port or "off"


def _read_subnet(text: str) -> str:
    if text == AUTO:
        return AUTO
    try:
        network = IPv4Network(text)
    except ValueError as fault:
        raise ValueError(f"is no IPv4 network: {fault}") from None
    if not _SHORTEST_PREFIX <= network.prefixlen <= _LONGEST_PREFIX or not network.is_private:
        raise ValueError("must be a private subnet from /24 to /27, for example 10.0.2.0/24")
    return str(network)


def _read_mirror(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest or " " in url:
        raise ValueError("is no http(s) URL")
    return url


def _read_insecure(host: str) -> str:
    if "://" in host or not host or " " in host:
        raise ValueError("should be HOST, HOST:PORT or a network")
    return host


def _read_host(host: str) -> str:
    # The name becomes a folder's in the guest.
    if _read_insecure(host).startswith(".") or "/" in host or "\0" in host:
        raise ValueError("should be HOST or HOST:PORT")
    return host


def _read_pem(text: str) -> str:
    path = user_path(text) if "\0" not in text else Path()
    if not path.is_absolute():
        raise ValueError("must be the absolute path of a PEM file")
    return str(path)


CA = Text(_read_ca, "`host`, `none`, or the absolute path of a PEM file")
NAMES = Either(
    _read_names,
    "port from 1 to 65535, or `off`",
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": _PORT_MAX}, {"enum": ["off", False]}]},
)
PROXY = Choice((HOST, NONE))
NETWORK = Keys(
    {
        "subnet": Key(
            Text(_read_subnet, "`auto`, or a private IPv4 network from /24 to /27"),
            "network between guest and computer; `auto` takes 10.0.2.0/24 unless that is in use here",
            default=AUTO,
        )
    },
    make=lambda found: {"subnet": AUTO, **found},
)
REGISTRIES = Keys(
    {
        "mirrors": Key(ListOf(Text(_read_mirror, "URL"), "URLs"), "mirrors of Docker Hub, asked first"),
        "insecure": Key(
            ListOf(Text(_read_insecure, "HOST[:PORT]"), "HOST, HOST:PORT or networks"),
            "registries that are spoken to without TLS, or without knowing their certificate",
        ),
        "ca": Key(
            MapOf(Text(_read_host, "HOST[:PORT]"), Text(_read_pem), "paths of PEM files"),
            "authorities that are believed for one registry alone, beside those that the guest knows",
        ),
        "default": Key(
            Text(_read_mirror, "URL"),
            "asked instead of Docker Hub for images whose names have no registry; Docker Hub is shut off",
        ),
    }
)
DAEMON = Free(
    "must be a mapping of the engine's own settings, as in its daemon.json", "mapping of the engine's own settings"
)
