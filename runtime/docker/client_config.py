"""The guest's docker client: which proxies it hands to builds and containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.net.proxies import merge_client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.guest import Guest

_FILE = "/root/.docker/config.json"
_WRITE = f"umask 077; mkdir -p /root/.docker && cat > {_FILE}.new && mv {_FILE}.new {_FILE}"


def set_client_proxies(guest: Guest, proxies: Mapping[str, str]) -> None:
    """Make the client's default proxies these; logins and everything else in its file stay.

    :raises HostvmError: the connection was lost.
    :raises ValueError: the file is damaged; it was left alone.
    """
    there = guest.run(["cat", _FILE])
    merged = merge_client_config(there.stdout.decode() if there.status == 0 else "", proxies)
    if merged is not None:
        guest.run(["/bin/sh", "-c", _WRITE], stdin=merged.encode())
