"""Where Podman keeps logins: with this computer's credential helpers, as docker does, else in the guest.

Formats: containers-registries.conf(5) and containers-auth.json(5) of containers/image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.net.credentials import HELPER, PODMANS_HUB, Offer
from hostvm.registry_login import HUB_KEY
from runtime.docker.client_config import change_file, merge_helpers

if TYPE_CHECKING:
    from hostvm.guest import Guest

_PROGRAM = f"/usr/bin/docker-credential-{HELPER}"
_FILE = "/var/lib/hostvm/logins/auth.json"


def logins_files(offer: Offer) -> dict[str, bytes]:
    """The seed's file beside registries.conf, if any.

    Where this computer keeps every login, nothing else may: a helper that fails must not mean that the password lies in
    the guest. An older image has no such program, and does not take this file.
    """
    return {"engine/logins.conf": f'credential-helpers = ["{HELPER}"]\n'.encode()} if offer.store else {}


def set_login_helpers(guest: Guest, offer: Offer) -> None:
    """Name the registries that have helpers of their own on this computer; everything else in Podman's file stays.

    :raises HostvmError: the connection was lost, or the file cannot be written.
    :raises ValueError: the file is damaged; it was left alone.
    """
    servers = tuple(PODMANS_HUB if server == HUB_KEY else server for server in offer.servers)
    if servers and guest.run(["test", "-x", _PROGRAM]).status != 0:
        servers = ()  # an older image
    change_file(guest, _FILE, lambda text: merge_helpers(text, Offer(servers=servers)) or text)
