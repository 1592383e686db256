"""The guest's docker client: which proxies it hands to builds and containers, and where it keeps logins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hostvm.errors import MachineError
from hostvm.guest import DOCKER_CONFIG
from hostvm.net.credentials import HELPER, Offer
from hostvm.net.proxies import merge_client_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hostvm.guest import Completed, Guest

_FILE = f"{DOCKER_CONFIG}/config.json"
# After a panic the console has the mark of the boot before, and the data disk, where the file is, may not be there yet:
# without its logins it would be written over them a moment later.
_READ = """
round=0
until [ -e /run/hostvm/marks/services ]; do
    [ $((round += 1)) -le 800 ] || { echo "its data disk is not mounted" >&2; exit 75; }
    busybox usleep 50000
done
[ ! -e "$1" ] || cat "$1"
"""
_WRITE = 'umask 077; mkdir -p "${1%/*}" && cat > "$1.new" && mv "$1.new" "$1"'


def merge_helpers(text: str, offer: Offer) -> str | None:
    """The client's configuration with this computer's helper in it, or without; None when nothing would change.

    What somebody chose in the guest stays; beside a store that was chosen there this computer's is not named at all.
    """
    config = json.loads(text) if text.strip() else {}
    if config.get("credsStore", HELPER) != HELPER:
        return None
    wanted = {key: value for key, value in config.items() if key not in ("credsStore", "credHelpers")}
    chosen = {server: name for server, name in config.get("credHelpers", {}).items() if name != HELPER}
    if offer.store:
        wanted["credsStore"] = HELPER
    if helpers := {**dict.fromkeys(offer.servers, HELPER), **chosen}:
        wanted["credHelpers"] = helpers
    return None if wanted == config else json.dumps(wanted, indent=2) + "\n"


def set_client_config(guest: Guest, proxies: Mapping[str, str], *, offer: Offer = Offer()) -> None:  # noqa: B008
    """Make the client's default proxies these; logins and everything else in its file stay.

    :param offer: what this computer's credential helpers keep.
    :raises HostvmError: the connection was lost, or the file cannot be written.
    :raises ValueError: the file is damaged; it was left alone.
    """

    def change(text: str) -> str:
        merged = merge_client_config(text, proxies) or text
        return merge_helpers(merged, offer) or merged

    change_file(guest, _FILE, change)


def change_file(guest: Guest, path: str, change: Callable[[str], str]) -> None:
    """Write a client's file on the data disk anew, for root alone, unless it stays as it is ("": it is not there).

    :raises HostvmError: the connection was lost, or the file cannot be written.
    """
    there = guest.run(["/bin/sh", "-c", _READ, "read", path])
    if there.status != 0:
        raise _not_told(there, path)
    text = there.stdout.decode()
    if (merged := change(text)) == text:
        return
    done = guest.run(["/bin/sh", "-c", _WRITE, "write", path], stdin=merged.encode())
    if done.status != 0:
        raise _not_told(done, path)


def _not_told(done: Completed, path: str) -> MachineError:
    return MachineError(
        "the client in the guest was not told of proxies and credential helper",
        done.stderr.decode(errors="replace").strip(),
        f"hostvm shell -- ls -la {path.rpartition('/')[0]}",
    )
