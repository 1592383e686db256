"""The proxies of this computer's environment, as guest, engine, builds and containers get them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostvm.errors import SpecError
from hostvm.net.addresses import HOST_NAMES
from hostvm.net.loopback import seen_from_guest, split_host
from hostvm.platform.words import set_variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.net.addresses import GuestNetwork

_URLS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_EXCEPT = "NO_PROXY"
_SCHEMES = ("", "http", "https", "socks5", "socks5h")
_DOCKER_KEYS = {"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "allProxy": "ALL_PROXY", "noProxy": _EXCEPT}
_PORT_MAX = 65535


def guest_proxies(environ: Mapping[str, str], network: GuestNetwork) -> dict[str, str]:
    """Variables for the guest, upper and lower case; empty when no proxy is set here.

    Loopback addresses become the guest's address of this computer. Addresses of guest and computer are added to
    NO_PROXY: no proxy could reach them.

    :raises SpecError: a value is no proxy's URL; says which.
    """
    found: dict[str, str] = {}
    for name in _URLS:
        for spelling, value in _both(environ, name).items():
            _check(spelling, value)
            found[spelling] = seen_from_guest(value, network.gateway)
    if not found:
        return {}
    excepted = _both(environ, _EXCEPT) or {_EXCEPT: "", _EXCEPT.lower(): ""}
    own = ["localhost", "127.0.0.0/8", "::1", str(network.subnet), *HOST_NAMES]
    for spelling, value in excepted.items():
        words = [word.strip() for word in value.split(",") if word.strip()]
        found[spelling] = value if "*" in words else ",".join(dict.fromkeys([*words, *own]))
    for value in found.values():
        _check_characters(_EXCEPT, value)
    return dict(sorted(found.items()))


def merge_client_config(text: str, proxies: Mapping[str, str]) -> str | None:
    """The guest's docker client configuration with these proxies in it; None when nothing would change.

    The client hands them to builds and containers (https://docs.docker.com/engine/cli/proxy/).

    :raises ValueError: `text` is no such configuration; it is somebody's, so it is left alone.
    """
    import json

    config: Any = json.loads(text) if text.strip() else {}
    if not isinstance(config, dict) or not isinstance(config.get("proxies", {}), dict):
        raise ValueError("it is not a mapping")  # noqa: TRY004 - as json.loads says it
    wanted = {key: proxies[name] for key, name in _DOCKER_KEYS.items() if name in proxies}
    there = config.get("proxies", {})
    if there.get("default", {}) == wanted:
        return None
    kept = {key: value for key, value in there.items() if key != "default"}
    config = {key: value for key, value in config.items() if key != "proxies"}
    if merged := {**kept, **({"default": wanted} if wanted else {})}:
        config["proxies"] = merged
    return json.dumps(config, indent=2) + "\n"


def _both(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """The variable's two spellings; one that is missing has the other's value."""
    upper, lower = environ.get(name, "").strip(), environ.get(name.lower(), "").strip()
    return {name: upper or lower, name.lower(): lower or upper} if upper or lower else {}


def _check(name: str, value: str) -> None:
    _check_characters(name, value)
    before, host, behind = split_host(value)
    scheme = before.partition("://")[0].lower() if "://" in before else ""
    if scheme not in _SCHEMES:
        raise _wrong(name, value, f"it begins with {scheme}://; known are {', '.join(_SCHEMES[1:])}")
    port = behind.partition("/")[0].partition("?")[0]
    if not host or host == "[]" or " " in value:
        raise _wrong(name, value, "there is no host in it")
    if port and not (port[0] == ":" and port[1:].isdecimal() and 0 < int(port[1:]) <= _PORT_MAX):
        if "@" in behind:
            raise _wrong(name, value, "a password's /, ? and # must be written as %2F, %3F and %23")
        raise _wrong(name, value, f"'{port.lstrip(':')}' is no port")


def _check_characters(name: str, value: str) -> None:
    if not value.isprintable():
        raise _wrong(name, "", "it holds a control character")


def _wrong(name: str, value: str, why: str) -> SpecError:
    # By the last @, not by `split_host`: a password with a / or # in it must not be shown either.
    before, sign, place = value.rpartition("@")
    scheme, mark, _ = before.partition("://")
    shown = f"{scheme}{mark}***@{place}" if mark else f"{'***' if sign else ''}{sign}{place}"
    return SpecError(
        f"{name} in the environment is no proxy's URL: {shown!r}",
        why,
        f"{set_variable(name, 'http://proxy.example:3128')}   # or unset it, or `proxy: none` in machine.yaml",
    )
