"""What holds for all procedures, and file systems."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

IO, ACCES, ROFS, TOOLONG = 5, 13, 30, 63


def test_file_systems_are_told(guest, folder, xdr):
    there = os.statvfs(folder)
    reader = guest.well(wire.FSSTAT, xdr.text(guest.root))
    assert xdr.maybe(reader).kind == 2
    sizes = [reader.u64() for _ in range(6)]
    assert (sizes[0], sizes[3]) == (there.f_blocks * there.f_frsize, there.f_files)
    assert reader.u32() == 0
    reader = guest.well(wire.FSINFO, xdr.text(guest.root))
    xdr.maybe(reader)
    sizes = [reader.u32() for _ in range(7)]
    assert sizes[0] == sizes[3] == wire.LARGEST
    assert (reader.u64(), reader.u32(), reader.u32()) == (2**63 - 1, 0, 1)
    assert reader.u32() & 0x1B == 0x1B
    reader = guest.well(wire.PATHCONF, xdr.text(guest.root))
    xdr.maybe(reader)
    words = [reader.u32() for _ in range(6)]
    assert words[1:] == [255, 1, 0, int(sys.platform != "linux"), 1]


def test_a_read_only_share_refuses_every_change(shares, folder, xdr):
    (folder / "file").write_text("kept")
    (folder / "d").mkdir()
    guest = shares.guest(folder, readonly=True)
    file, root, new = xdr.text(guest.lookup("file")), xdr.text(guest.root), xdr.text("new")
    for procedure, words in (
        (wire.SETATTR, (file, xdr.wish(mode=0o600), u32(0))),
        (wire.SETATTR, (file, xdr.wish(size=0), u32(0))),
        (wire.SETATTR, (file, xdr.wish(user=5), u32(0))),
        (wire.SETATTR, (file, xdr.wish(modified=5), u32(0))),
        (wire.WRITE, (file, u64(0), u32(1), u32(0), xdr.text(b"x"))),
        (wire.CREATE, (root, new, u32(wire.UNCHECKED), xdr.wish())),
        (wire.CREATE, (root, new, u32(wire.GUARDED), xdr.wish())),
        (wire.CREATE, (root, new, u32(wire.EXCLUSIVE), bytes(8))),
        (wire.CREATE, (root, xdr.text("file"), u32(wire.UNCHECKED), xdr.wish(size=0))),
        (wire.MKDIR, (root, new, xdr.wish())),
        (wire.SYMLINK, (root, new, xdr.wish(), xdr.text("x"))),
        (wire.MKNOD, (root, new, u32(wire.PIPE), xdr.wish())),
        (wire.REMOVE, (root, xdr.text("file"))),
        (wire.RMDIR, (root, xdr.text("d"))),
        (wire.RENAME, (root, xdr.text("file"), root, new)),
        (wire.LINK, (file, root, new)),
        (wire.COMMIT, (file, u64(0), u32(0))),
    ):
        assert guest.status(procedure, *words) == ROFS, procedure
    assert sorted(one.name for one in folder.iterdir()) == ["d", "file"]
    assert guest.read(guest.lookup("file")) == (b"kept", True)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errno.ENOSPC, 28), (errno.EDQUOT, 69), (errno.EXDEV, 18), (errno.EPERM, 1), (errno.ENAMETOOLONG, TOOLONG),
        (errno.ENODEV, 19), (errno.EBUSY, ACCES), (errno.ETXTBSY, ACCES), (errno.EBADF, IO), (None, IO),
    ],
)  # fmt: skip
def test_a_fault_has_the_status_that_says_the_same(guest, xdr, monkeypatch, fault, code):
    def refuse(*words):
        raise OSError(fault, "no") if fault else OSError

    monkeypatch.setattr("hostvm.shares.tree.Tree.mkdir", refuse)
    assert guest.status(wire.MKDIR, xdr.text(guest.root), xdr.text("d"), xdr.wish()) == code
