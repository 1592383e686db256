"""The guest's docker client: which proxies it hands to builds and containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.guest import GUEST_HOME
from hostvm.net.proxies import merge_client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.guest import Guest

# Not /root, where a folder of this computer may lie.
_FOLDER = f"{GUEST_HOME}/.docker"
_FILE = f"{_FOLDER}/config.json"
_WRITE = f"umask 077; mkdir -p {_FOLDER} && cat > {_FILE}.new && mv {_FILE}.new {_FILE}"


def set_client_proxies(guest: Guest, proxies: Mapping[str, str]) -> None:
    """Make the client's default proxies these; logins and everything else in its file stay.

    :raises HostvmError: the connection was lost, or the file cannot be written.
    :raises ValueError: the file is damaged; it was left alone.
    """
    there = guest.run(["cat", _FILE])
    merged = merge_client_config(there.stdout.decode() if there.status == 0 else "", proxies)
    if merged is None:
        return
    done = guest.run(["/bin/sh", "-c", _WRITE], stdin=merged.encode())
    if done.status != 0:
        raise MachineError(
            "the docker client in the guest was not told of the proxies",
            done.stderr.decode(errors="replace").strip(),
            f"hostvm shell -- ls -la {_FOLDER}",
        )
