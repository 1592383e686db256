"""Names of shared files without the links on the way to them."""

from __future__ import annotations

import sys

import pytest

from hostvm.shares.model import Mount
from hostvm.shares.own_names import below, inside_of, own_names, place_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


@pytest.fixture
def share(tmp_path):
    """A folder that is reached by a link itself, with one in it."""
    (tmp_path / "real" / "own" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "link").symlink_to("own")
    (tmp_path / "share").symlink_to("real")
    return tmp_path / "share"


def test_paths_in_folders():
    assert [inside_of(path, "/a") for path in ("/a", "/a/b", "/ab", "/")] == ["", "/b", None, None]
    assert [inside_of(path, "/") for path in ("/", "/a/b")] == ["", "/a/b"]
    assert [below("/a", ""), below("/a", "/b"), below("/", ""), below("/", "/b")] == ["/a", "/a/b", "/", "/b"]


def test_a_change_has_its_folders_own_name(share, tmp_path):
    (share / "out").symlink_to(tmp_path)
    (share / "gone").symlink_to("own/gone")
    told = [
        ("added", f"{share}/link/deep/file"),
        ("added", f"{share}/own/deep/file"),
        ("deleted", f"{share}/gone/file"),  # a link is there still when the folder is gone that it leads to
        ("modified", f"{share}/link"),
        ("modified", f"{share}/out/file"),
        ("modified", str(share)),
    ]
    assert own_names(told, [str(share)]) == [
        ("added", f"{share}/own/deep/file"),
        ("added", f"{share}/own/deep/file"),
        ("deleted", f"{share}/own/gone/file"),
        ("modified", f"{share}/link"),
        ("modified", str(share)),
    ]


def test_a_folder_that_is_watched_by_two_names_keeps_each(share):
    sources = [str(share), str(share.resolve())]
    for source in sources:
        assert own_names([("added", f"{source}/own/file")], sources) == [("added", f"{source}/own/file")]
    inner = [("added", f"{share}/link/file")]
    assert own_names(inner, [str(share), f"{share}/own"]) == [("added", f"{share}/own/file")]


def test_a_single_file_is_watched_by_its_name(share):
    file = str(share / "own" / "file")
    assert own_names([("modified", file)], [file]) == [("modified", file)]


def test_a_container_has_what_its_link_leads_to(share, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "mine").mkdir()
    (share / "other").symlink_to(tmp_path / "other")
    (share / "mine").symlink_to(tmp_path / "mine")
    outer = Mount(str(share), "/w")
    other = Mount(str(tmp_path / "other"), str(tmp_path / "other"))
    moved = Mount(str(share), str(tmp_path / "mine"))
    for path, mount, here, there in (
        ("/w", outer, str(share), "/w"),
        ("/w/own/deep", outer, f"{share}/own/deep", "/w/own/deep"),
        ("/w/link/deep", outer, f"{share}/own/deep", "/w/own/deep"),
        ("/w/other", other, other.source, other.target),
    ):
        assert place_of(path, [outer, other]) == (mount, here, there)
    assert place_of("/w/other", [outer]) is None, "of no share"
    assert place_of("/w/mine", [outer, moved]) is None, "the guest has another folder by that name"
    assert place_of("/elsewhere", [outer]) is None


def test_the_whole_computer_is_a_share_as_others(tmp_path):
    whole = Mount("/", "/host")
    assert place_of(f"/host{tmp_path}", [whole]) == (whole, str(tmp_path), f"/host{tmp_path}")
    assert place_of("/host", [whole]) == (whole, "/", "/host")
