"""A guest that is a table, for what the agent mounts and unmounts."""

from __future__ import annotations

import contextlib
import socket

from hostvm.guest import Completed

GATEWAY = "192.168.231.2"


class Guest:
    """Programs as `hostvm.shares.mounting` runs them; what is mounted, the topmost last."""

    def __init__(self):
        self.mounts = []
        self.did = []
        self.dead = set()
        self.nfs = True

    def run(self, argv, *, timeout, stdin=b""):
        del timeout
        if argv[0] == "stat":
            return Completed(int(argv[2] in self.dead), b"", b"")
        told = argv[4] if len(argv) > 4 else ""
        if argv[3:4] == ["mount"]:
            self.did.append(f"mount {told}")
            self.mounts.append((told, "fuse.sshfs" if "sshfs" in argv else "nfs", argv[-1]))
            self.dead.discard(told)
        elif argv[3:4] == ["unmount"]:
            self.did.append(f"unmount {told}")
            # A lazy unmount takes what is inside along.
            self.mounts = [one for one in self.mounts if not f"{one[0]}/".startswith(f"{told}/")]
        table = [f"x {place} {kind} rw" for place, kind, _ in self.mounts] + ["nfs"] * self.nfs
        return Completed(0, "\n".join(table).encode(), b"")

    def places(self):
        return [place for place, _, _ in self.mounts]


class Host:
    def __init__(self):
        self.said = []
        self.log = self.said.append


def close(service):
    if service._listener is not None:
        end(service._listener._socket)


def end(listening):
    with contextlib.suppress(OSError):  # it was closed before
        listening.shutdown(socket.SHUT_RDWR)  # ends who waits there, too
    listening.close()


def states(service):
    return [(row["target"], row["state"]) for row in service.describe()["mounts"]]
