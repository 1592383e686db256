"""The guest's docker client: which proxies it hands to builds and containers, and where it keeps logins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.guest import DOCKER_CONFIG
from hostvm.net.credentials import HELPER
from hostvm.net.proxies import merge_client_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostvm.guest import Completed, Guest

_FILE = f"{DOCKER_CONFIG}/config.json"
# After a panic the console has the mark of the boot before, and the data disk, where the file is, may not be there yet:
# without its logins it would be written over them a moment later.
_READ = f"""
round=0
until [ -e /run/hostvm/marks/services ]; do
    [ $((round += 1)) -le 800 ] || {{ echo "its data disk is not mounted" >&2; exit 75; }}
    busybox usleep 50000
done
[ ! -e {_FILE} ] || cat {_FILE}
"""
_WRITE = f"umask 077; mkdir -p {DOCKER_CONFIG} && cat > {_FILE}.new && mv {_FILE}.new {_FILE}"


def merge_store(text: str, *, wanted: bool) -> str | None:
    """The client's configuration with this computer's helper in it, or without; None when nothing would change."""
    config = json.loads(text) if text.strip() else {}
    if config.get("credsStore", HELPER) != HELPER or wanted == ("credsStore" in config):
        return None
    if wanted:
        config["credsStore"] = HELPER
    else:
        del config["credsStore"]
    return json.dumps(config, indent=2) + "\n"


def set_client_config(guest: Guest, proxies: Mapping[str, str], *, store: bool = False) -> None:
    """Make the client's default proxies these; logins and everything else in its file stay.

    :param store: this computer's credential helper keeps the logins; a store that somebody chose in the guest stays.
    :raises HostvmError: the connection was lost, or the file cannot be written.
    :raises ValueError: the file is damaged; it was left alone.
    """
    there = guest.run(["/bin/sh", "-c", _READ])
    if there.status != 0:
        raise _not_told(there)
    text = there.stdout.decode()
    merged = merge_client_config(text, proxies) or text
    merged = merge_store(merged, wanted=store) or merged
    if merged == text:
        return
    done = guest.run(["/bin/sh", "-c", _WRITE], stdin=merged.encode())
    if done.status != 0:
        raise _not_told(done)


def _not_told(done: Completed) -> MachineError:
    return MachineError(
        "the docker client in the guest was not told of proxies and credential helper",
        done.stderr.decode(errors="replace").strip(),
        f"hostvm shell -- ls -la {DOCKER_CONFIG}",
    )
