"""What root in the guest may do with files and folders of the user's own: what the user may, whatever their modes."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and users of POSIX")

ACCES = 13
NOBODY = 65534


@pytest.fixture
def ordinary(guest, folder):
    """The server is no root; what it made before is its own."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)
    os.setegid(0)


def forget_what_is_open(guest):
    for export in guest.exports.values():
        export.files.close()


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("mode", [0o000, 0o200, 0o111])
def test_a_file_is_read_whatever_its_mode(guest, xdr, mode):
    """Who has it open reads on, too: it is closed here after a while."""
    handle = guest.create("f")
    guest.write(handle, b"kept")
    guest.well(wire.SETATTR, xdr.text(handle), xdr.wish(mode=mode), u32(0))
    forget_what_is_open(guest)
    assert guest.read(handle) == (b"kept", True)
    assert guest.attributes(handle).mode == mode


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("mode", [0o555, 0o500])
def test_names_in_a_folder_are_made_and_taken_away_whatever_its_mode(guest, xdr, mode):
    """The cache of Go's modules has such folders: `rm -r` of it by a container's root failed."""
    inside = guest.make(wire.MKDIR, "d", xdr.wish(mode=0o755))
    for name in ("file", "old", "first"):
        guest.create(name, folder=inside)
    guest.make(wire.MKDIR, "folder", xdr.wish(mode=0o755), folder=inside)
    guest.well(wire.SETATTR, xdr.text(inside), xdr.wish(mode=mode), u32(0))
    assert guest.remove("file", inside) == wire.OK
    assert guest.remove("folder", inside, wire.RMDIR) == wire.OK
    assert guest.rename("old", "new", inside) == wire.OK
    assert guest.rename("new", "out", inside, guest.root) == wire.OK
    assert guest.link(guest.lookup("first", inside), "second", inside) == wire.OK
    guest.create("made", folder=inside)
    guest.make(wire.MKDIR, "folder", xdr.wish(mode=0o755), folder=inside)
    guest.make(wire.SYMLINK, "link", xdr.wish(), xdr.text("to"), folder=inside)
    guest.make(wire.MKNOD, "pipe", u32(wire.PIPE), xdr.wish(mode=0o600), folder=inside)
    names = {one[0] for one in guest.piece(inside)[0]} - {".", ".."}
    assert names == {"first", "second", "made", "folder", "link", "pipe"}
    assert guest.attributes(inside).mode == mode


def test_what_is_another_users_stays_as_it_is(guest, folder, xdr, ordinary):
    if os.getuid() != 0:
        pytest.skip("makes files of two users")
    os.seteuid(0)
    (folder / "d").mkdir(mode=0o755)
    (folder / "d" / "f").write_text("root's")
    (folder / "d" / "f").chmod(0o600)
    os.seteuid(NOBODY)
    inside = guest.lookup("d")
    words = (xdr.text(guest.lookup("f", inside)), u64(0))
    assert guest.status(wire.READ, *words, u32(1)) == ACCES
    assert guest.status(wire.WRITE, *words, u32(1), u32(wire.UNSTABLE), xdr.text(b"x")) == ACCES
    assert guest.remove("f", inside) == ACCES
    assert guest.status(wire.MKDIR, xdr.text(inside), xdr.text("new"), xdr.wish()) == ACCES
    os.seteuid(0)
    assert [stat.S_IMODE((folder / one).stat().st_mode) for one in ("d", "d/f")] == [0o755, 0o600]
