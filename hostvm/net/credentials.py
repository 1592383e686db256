"""Logins of the guest's clients, kept by this computer's credential helper instead of in the guest's files."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hostvm.credential_helpers import ask_helper, default_helper, helped_servers, helper_of
from hostvm.errors import HostvmError
from hostvm.registry_login import HUB_KEY, read_config

if TYPE_CHECKING:
    from hostvm.agent.service import Host
    from hostvm.guest import Guest, GuestStream

GUEST_SOCKET = "/run/hostvm/credentials.sock"
HELPER = "hostvm"
"""What the guest's clients are told to use: its program is in the guest image."""

PODMANS_HUB = "docker.io"
"""What Podman calls Docker Hub where docker says `HUB_KEY`."""

_ACTIONS = ("get", "store", "erase")
_MOST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """Whose logins this computer's helpers keep.

    :param store: every registry's.
    :param servers: those of these registries alone.
    """

    store: bool = False
    servers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.store or bool(self.servers)


def offered() -> Offer:
    """What this computer's docker configuration names, as far as it is installed."""
    try:
        config = read_config()
    except HostvmError:
        return Offer()
    return Offer(store=True) if default_helper(config) else Offer(servers=helped_servers(config))


class CredentialService:
    """Implements `hostvm.agent.service.Service`. A question is two lines, ACTION and the words; see `answer`.

    Nothing of either goes into a log.
    """

    name = "credentials"
    early = False

    def __init__(self) -> None:
        self._open = False

    def start(self, guest: Guest, host: Host) -> None:
        """Make the socket in the guest, for root alone."""
        threading.Thread(target=self._begin, args=(guest, host), name="credentials", daemon=True).start()

    def stop(self) -> None:
        """Nothing to undo: sshd closed the socket with the connection."""
        self._open = False

    def describe(self) -> dict[str, Any]:
        """Whether it is there."""
        return {"guest": GUEST_SOCKET if self._open else None}

    def _begin(self, guest: Guest, host: Host) -> None:
        try:
            guest.accept_socket(GUEST_SOCKET, self._serve)
        except (OSError, HostvmError) as fault:
            host.log(f"credentials: {fault}")
            return
        self._open = True

    def _serve(self, stream: GuestStream) -> None:
        asked = b""
        with contextlib.suppress(OSError), contextlib.closing(stream):
            while asked.count(b"\n") < 2 and len(asked) < _MOST and (piece := stream.recv(_MOST)):  # noqa: PLR2004
                asked += piece
            action, _, words = asked.partition(b"\n")
            stream.sendall(answer(action.decode(errors="replace"), words.rstrip(b"\n")))


def answer(action: str, words: bytes) -> bytes:
    """The helper's exit status in a line of its own, then what it printed.

    :param words: a registry's address, or what `store` gets: JSON with ServerURL, Username and Secret.
    """
    if action not in _ACTIONS:
        return b"1\nthis computer answers get, store and erase\n"
    try:
        login = json.loads(words) if action == "store" else {"ServerURL": words.decode()}
        server = login["ServerURL"]
        if server == PODMANS_HUB:
            server = HUB_KEY
            words = json.dumps({**login, "ServerURL": server}).encode() if action == "store" else server.encode()
        helper = helper_of(read_config(), str(server))
        done = ask_helper(helper, action, words) if helper else None
    except (ValueError, KeyError, TypeError):
        return b"1\nthe question cannot be read\n"
    except HostvmError as fault:
        return f"1\n{fault.brief}\n".encode()
    if done is None:
        return b"1\ncredentials not found in native keychain\n"
    return f"{min(abs(done.status), 255)}\n".encode() + done.stdout
