"""Credentials for registries, from where `docker login` leaves them: config.json and its credential helpers.

https://docs.docker.com/reference/cli/docker/login/#credential-stores. Read when a registry asks, never written, never
shown.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostvm.credential_helpers import NOT_FOUND, ask_helper, is_helper
from hostvm.errors import HostvmError, ImageError

if TYPE_CHECKING:
    from images.registry.auth import Credentials

_INLINE = "DOCKER_AUTH_CONFIG"
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers mark an identity token
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
HUB_KEY = "https://index.docker.io/v1/"


def find_credentials(host: str) -> Credentials | None:
    """What the user logged in to `host` with; None without a login.

    :param host: with its port, as in the reference.
    :raises ImageError: the configuration cannot be read, or a helper fails.
    """
    config = read_config(host)
    names = [HUB_KEY, *_HUB] if host in _HUB else [host, f"https://{host}", f"http://{host}"]
    helper = _first(_mapping(config.get("credHelpers")), names) or config.get("credsStore")
    if isinstance(helper, str) and helper:
        for name in names:
            if (found := _ask_helper(helper, name)) is not None:
                return found
    entry = _first(_mapping(config.get("auths")), names)
    return _from_entry(_mapping(entry), host)


def read_config(host: str = "") -> dict[str, Any]:
    """docker's config.json on this computer; empty when there is none.

    :param host: the registry that it is read for; for what a fault advises. Docker Hub without one.
    :raises ImageError: it cannot be read.
    """
    inline = os.environ.get(_INLINE)
    if inline:
        where, text = _INLINE, inline
    else:
        folder = os.environ.get("DOCKER_CONFIG")
        path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise _broken(where, host) from error
    try:
        return _mapping(json.loads(text))
    except ValueError:
        raise _broken(where, host) from None  # the parser's message may quote a password


def _ask_helper(helper: str, name: str) -> Credentials | None:
    if not is_helper(helper):
        raise _helper_fault(helper, "is not a name that a program can have")
    try:
        done = ask_helper(helper, "get", name.encode())
    except HostvmError as error:
        raise _helper_fault(helper, error.brief) from error
    if done.status != 0:
        # Anything else is a fault of theirs.
        if NOT_FOUND in done.stdout + done.stderr:
            return None
        raise _helper_fault(helper, f"ended with status {done.status}")
    try:
        data = _mapping(json.loads(done.stdout))
    except ValueError:
        raise _helper_fault(helper, "printed something else than credentials") from None
    return _credentials(data.get("Username"), data.get("Secret"))


def _from_entry(entry: dict[str, Any], host: str) -> Credentials | None:
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return _credentials(_TOKEN_USER, token)
    user, password = entry.get("username"), entry.get("password")
    if isinstance(packed := entry.get("auth"), str) and packed:
        try:
            user, _, password = base64.b64decode(packed).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            where = _INLINE if os.environ.get(_INLINE) else f"the entry of {host} in docker's config.json"
            raise _broken(where, host) from None
    return _credentials(user, password)


def _credentials(user: Any, secret: Any) -> Credentials | None:
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        return None
    from images.registry.auth import Credentials  # with requests, which takes 40 ms

    return Credentials("", identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


def _first(table: dict[str, Any], names: list[str]) -> Any:
    return next((table[name] for name in names if name in table), None)


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _broken(where: str, host: str) -> ImageError:
    own = where == _INLINE
    anew = f"Do without it: `unset {_INLINE}`" if own else f"Log in anew: `{f'docker login {host}'.strip()}`"
    return ImageError(f"{where} cannot be read", "It holds the logins to registries.", anew)


def _helper_fault(helper: str, why: str) -> ImageError:
    return ImageError(
        f"docker's credential helper {helper} does not answer",
        f"docker-credential-{helper} {why}.",
        f"Try it: `docker-credential-{helper} list`; docker's config.json names it under credsStore or credHelpers",
    )
