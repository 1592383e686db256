"""What is told and set of a file, on a real folder."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.xdr import u32

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

linux = pytest.mark.skipif(sys.platform != "linux", reason="owners and sockets' names are kept on Linux")


def test_attributes_are_set_each_for_itself(guest, folder, xdr):
    handle = guest.create("f")
    guest.write(handle, b"content")

    def set_(**what):
        before, after = xdr.told(guest.well(wire.SETATTR, xdr.text(handle), xdr.wish(**what), u32(0)))
        assert before
        return after

    assert set_(size=3).size == 3
    assert set_(size=5).size == 5
    assert (folder / "f").read_bytes() == b"con\0\0"
    assert set_(mode=0o4711).mode == 0o4711
    exact = 1_234_567_890_123_456_789
    assert set_(modified=exact).modified == exact == (folder / "f").stat().st_mtime_ns
    found = set_(accessed=5_000_000_001)
    assert (found.accessed, found.modified) == (5_000_000_001, exact)
    assert set_(modified=True).modified > exact
    assert set_(accessed=7).modified > exact


def test_times_that_version_3_has_no_words_for_are_told_as_the_nearest_it_has(guest, folder):
    """A file of 2200 was one of 1970 in the guest."""
    handle = guest.create("f")
    for seconds, told in ((-(10**9), 0), (2**32 - 1, 2**32 - 1), (2**32, 2**32 - 1), (7_258_118_400, 2**32 - 1)):
        os.utime(folder / "f", (5, seconds))
        assert (folder / "f").stat().st_mtime == seconds
        assert guest.attributes(handle).modified // 10**9 == told


def test_attributes_are_not_set_of_what_has_changed_since(guest, folder, xdr):
    handle = guest.create("f")
    changed = guest.attributes(handle).changed
    guard = (u32(1), u32(changed // 10**9), u32(changed % 10**9 ^ 1))
    words = (xdr.text(handle), xdr.wish(mode=0o600))
    assert guest.status(wire.SETATTR, *words, *guard) == wire.NOT_SYNC
    assert guest.status(wire.SETATTR, *words, *guard[:2], u32(changed % 10**9)) == wire.OK


@linux
def test_owners_are_kept_and_the_file_stays_the_users(guest, folder, xdr):
    handle = guest.create("f")

    def owner(**what):
        guest.well(wire.SETATTR, xdr.text(handle), xdr.wish(**what), u32(0))
        return guest.attributes(handle)[3:5]

    assert owner(user=999) == (999, 0)
    assert owner(group=998) == (999, 998)
    assert owner(user=0, group=0) == (0, 0)
    assert (folder / "f").stat().st_uid == os.geteuid()


@linux
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("mode", [0o400, 0o555])
def test_what_its_owner_may_not_write_is_given_away_as_well(guest, folder, xdr, monkeypatch, mode, opened):
    """A private key, git's objects; who is not root may set attributes only of what may be written to."""

    def checked(real):
        def act(file, *words, **named):
            if not os.stat(file).st_mode & 0o200:  # noqa: PTH116 - may be a descriptor
                raise PermissionError(errno.EACCES, "not for writing")
            real(file, *words, **named)

        return act

    for name in ("setxattr", "removexattr"):
        monkeypatch.setattr(os, name, checked(getattr(os, name)))
    handle = guest.create("f", mode=mode)
    if opened:
        guest.write(handle, b"x")
        (folder / "f").unlink()
    for owner in ((999, 998), (0, 0)):
        words = xdr.wish(user=owner[0], group=owner[1])
        guest.well(wire.SETATTR, xdr.text(handle), words, u32(0))
        found = guest.attributes(handle)
        assert (found.user, found.group, found.mode) == (*owner, mode)


@linux
@pytest.mark.parametrize("words", [b"4294967296:0", b"99999999999999999999999:1", b"-1:0", b"x", b""])
def test_an_owner_that_is_none_is_root(guest, folder, words):
    """Anybody on this computer may set the attribute."""
    (folder / "f").touch()
    os.setxattr(folder / "f", "user.hostvm.owner", words)
    assert guest.attributes(guest.lookup("f"))[3:5] == (0, 0)


@linux
def test_a_file_that_is_open_and_gone_keeps_its_owner(guest, folder):
    handle = guest.create("f", who=(1000, 1000))
    guest.write(handle, b"x")
    assert guest.read(handle) == (b"x", True)
    (folder / "f").unlink()
    found = guest.attributes(handle)
    assert (found.size, found.user, found.group) == (1, 1000, 1000)


@pytest.mark.parametrize(("readonly", "granted"), [(False, 0x3F), (True, 0x23)])
def test_access_is_what_the_share_allows(shares, folder, xdr, readonly, granted):
    """The guest's kernel judges by modes and owners itself."""
    guest = shares.guest(folder, readonly=readonly)
    reader = guest.well(wire.ACCESS, xdr.text(guest.root), u32(0x3F))
    assert xdr.maybe(reader).kind == 2
    assert reader.u32() == granted
