"""docker's credential helpers on this computer: programs that keep passwords in the user's key ring.

https://github.com/docker/docker-credential-helpers: `docker-credential-NAME get|store|erase`, words on standard input.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from hostvm.process import find_program, run

if TYPE_CHECKING:
    from hostvm.process import Result

_SECONDS = 60.0
"""A helper may ask the user to unlock a key ring."""

# How the helpers find the user's key ring, password store or agent.
_NEEDS = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
    "DOCKER_CONFIG",
)
NOT_FOUND = b"credentials not found"
"""All helpers say this, and fail, when they have no entry."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def helper_environment() -> dict[str, str]:
    """Variables of this process that helpers need beside those that every program gets."""
    return {key: os.environ[key] for key in _NEEDS if key in os.environ}


def is_helper(name: str) -> bool:
    """Whether it can be a helper's name."""
    return bool(_NAME.match(name))


def ask_helper(name: str, action: str, words: bytes) -> Result:
    """Run it, whatever its exit status.

    :raises HostvmError: it is missing or does not answer in time.
    """
    return run(
        [f"docker-credential-{name}", action], stdin=words, timeout=_SECONDS, env=helper_environment(), check=False
    )


def default_helper(config: dict[str, Any]) -> str:
    """The helper that docker's config.json names for all registries; "" for none, or where it is not installed."""
    name = config.get("credsStore")
    if not isinstance(name, str) or not is_helper(name) or find_program(f"docker-credential-{name}") is None:
        return ""
    return name


def helped_servers(config: dict[str, Any]) -> tuple[str, ...]:
    """The registries for which docker's config.json names a helper of their own that is installed."""
    single = config.get("credHelpers")
    found = single.items() if isinstance(single, dict) else ()
    return tuple(
        server
        for server, name in found
        if isinstance(name, str) and is_helper(name) and find_program(f"docker-credential-{name}") is not None
    )


def helper_of(config: dict[str, Any], server: str) -> str:
    """The helper for one registry."""
    single = config.get("credHelpers")
    name = single.get(server) if isinstance(single, dict) else None
    return name if isinstance(name, str) and is_helper(name) else default_helper(config)
