"""This computer's ssh agent, as a socket in the guest."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

from hostvm.agent.relay import relay
from hostvm.errors import HostvmError
from hostvm.net.addresses import GUEST_AUTH_SOCK
from hostvm.platform.local import connect_local

if TYPE_CHECKING:
    from hostvm.agent.service import Host
    from hostvm.guest import Guest, GuestStream


class AuthAgentService:
    """Implements `hostvm.agent.service.Service`.

    :param path: the agent's socket here, as SSH_AUTH_SOCK names it.
    """

    name = "ssh-agent"
    early = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._connected: tuple[Guest, Host] | None = None
        self._asked: Guest | None = None
        self._lock = threading.Lock()
        self._open = False

    def use(self, path: str) -> None:
        """The user's agent is another one now (a new login). What is not this user's socket is not believed."""
        if sys.platform == "win32" or path == self._path or not _is_own_socket(path):
            return
        self._path = path
        connected = self._connected
        if connected is not None:
            self.start(*connected)

    def start(self, guest: Guest, host: Host) -> None:
        """Make the socket in the guest. Its connections come here, each to the agent that is current then."""
        with self._lock:
            self._connected = guest, host
            if not self._path or self._asked is guest:
                return
            self._asked = guest
        threading.Thread(target=self._begin, args=(guest, host), name="ssh-agent", daemon=True).start()

    def stop(self) -> None:
        """Nothing to undo: sshd closed the socket with the connection."""
        self._connected, self._open = None, False

    def describe(self) -> dict[str, Any]:
        """Where it leads."""
        return {"host": self._path, "guest": GUEST_AUTH_SOCK if self._open else None}

    def _begin(self, guest: Guest, host: Host) -> None:
        try:
            folder = GUEST_AUTH_SOCK.rpartition("/")[0]
            guest.run(["mkdir", "-p", folder])
            guest.accept_socket(GUEST_AUTH_SOCK, self._serve)
            # sshd makes it for root alone; a container's user may be another, and only who is given it has it.
            done = guest.run(["chmod", "0666", GUEST_AUTH_SOCK])
        except (OSError, HostvmError) as fault:
            host.log(f"ssh-agent: {fault}")
            return
        self._open = done.status == 0
        if not self._open:
            host.log("ssh-agent: the guest made no socket")

    def _serve(self, stream: GuestStream) -> None:
        if sys.platform == "win32":
            stream.close()
            return
        try:
            sock = connect_local(self._path)
        except OSError:
            stream.close()  # the program in the guest sees an agent that hangs up
            return
        relay(sock, stream)


def _is_own_socket(path: str) -> bool:
    if sys.platform == "win32":
        return False
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)  # noqa: PTH116 - a socket's path, as the system takes it
        return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid()
    return False
