"""Folders read piece by piece."""

from __future__ import annotations

import sys

import pytest

from hostvm.shares.nfs import wire
from hostvm.shares.nfs.listing import Listings
from hostvm.shares.nfs.xdr import u32, u64

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

NOTDIR = 20


@pytest.mark.parametrize("plus", [False, True])
def test_a_folder_is_read_in_pieces_while_what_was_told_is_removed(guest, folder, plus):
    """As `rm -r` does: nothing is skipped, nothing told twice, another server's pieces follow just so."""
    names = {f"name-{number:04}-é" for number in range(500)}
    for name in names:
        (folder / name).touch()
    found, cookie, ended, pieces = [], 0, False, 0
    while not ended:
        if pieces % 3 == 2:
            guest.server._procedures.folders._listings = Listings()
        part, ended, length = guest.piece(guest.root, cookie, 4096, plus=plus)
        assert length <= 4096
        for name, cookie, number, seen, handle in part:  # noqa: B007 - the last one's
            found.append(name)
            if name in (".", ".."):
                assert number == 1
                continue
            assert number == guest.attributes(guest.lookup(name)).number
            if plus:
                assert (seen.number, seen.kind) == (number, 1)
                assert guest.attributes(handle).number == number
            assert guest.remove(name) == wire.OK
        pieces += 1
    assert pieces > 3
    assert found[:2] == [".", ".."]
    assert len(found) == len(names) + 2
    assert set(found) == names | {".", ".."}
    assert list(folder.iterdir()) == []


def test_what_is_made_or_removed_between_two_readings_is_told(guest, folder):
    assert [one[0] for one in guest.piece(guest.root)[0]] == [".", ".."]
    (folder / "a").touch()
    assert sorted(one[0] for one in guest.piece(guest.root)[0]) == [".", "..", "a"]
    (folder / "a").unlink()
    assert [one[0] for one in guest.piece(guest.root, plus=True)[0]] == [".", ".."]


def test_a_folder_above_is_told_as_such(guest, folder):
    (folder / "a" / "b").mkdir(parents=True)
    above = guest.attributes(guest.lookup("a")).number
    assert {one[0]: one[2] for one in guest.piece(guest.lookup("a/b"))[0]}[".."] == above
    assert guest.lookup("..", guest.lookup("a/b")) == guest.lookup("a")
    assert guest.lookup("..") == guest.lookup(".") == guest.root


def test_a_piece_that_is_too_small_for_a_name_says_so(guest, folder, xdr):
    (folder / ("n" * 200)).touch()
    words = (xdr.text(guest.root), u64(2), bytes(8))
    assert guest.status(wire.READDIR, *words, u32(300)) == wire.TOO_SMALL
    assert guest.status(wire.READDIR, xdr.text(guest.create("f")), u64(0), bytes(8), u32(4096)) == NOTDIR
