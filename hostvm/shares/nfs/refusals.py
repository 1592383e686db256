"""How a call ends that is not answered as it was asked."""

from __future__ import annotations

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32

OK = u32(wire.OK)
"""The status of an answer that is one."""

# What follows a status that is not OK: attributes that are not told, one word each.
_NOTHING_TOLD = {
    wire.GETATTR: 0, wire.SETATTR: 2, wire.LOOKUP: 1, wire.ACCESS: 1, wire.READLINK: 1, wire.READ: 1, wire.WRITE: 2,
    wire.CREATE: 2, wire.MKDIR: 2, wire.SYMLINK: 2, wire.MKNOD: 2, wire.REMOVE: 2, wire.RMDIR: 2, wire.RENAME: 4,
    wire.LINK: 3, wire.READDIR: 1, wire.READDIRPLUS: 1, wire.FSSTAT: 1, wire.FSINFO: 1, wire.PATHCONF: 1,
    wire.COMMIT: 2,
}  # fmt: skip


class RefusedError(Exception):
    """A status of NFS for which there is no OSError."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Later(Exception):  # noqa: N818 - no fault: the answer follows when the file is on the disk
    """What has to be on the disk first, and the answer then. The descriptor is closed by whoever handles this."""

    def __init__(self, descriptor: int, answer: bytes) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.answer = answer


def refusal(procedure: int, code: int) -> bytes:
    """The answer to a call that is refused."""
    return u32(code) + u32(0) * _NOTHING_TOLD[procedure]
