"""Which folder a share is: a link that a container could have put leads nowhere, one that was named where it led."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.platform.unlinked import open_unlinked
from hostvm.shares.model import Mount
from hostvm.shares.settings import Mounts, render_mounts
from hostvm.shares.sources import (
    DistrustedError,
    as_typed,
    is_there,
    moved_by,
    typed_mounts,
    unlinked_path,
    way_of,
    why_not,
)
from hostvm.shares.tree import Tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="making links takes rights there")

LINKED = ["home/out", "home/up", "home/twice", "home/out/deep", "home/in", "beside/far"]


@pytest.fixture
def base(tmp_path):
    """A folder `home` that containers write to, one beside it that they must not see, and ways between them."""
    base = tmp_path.resolve()
    for name in ("home/src/deep", "secret/deep", "beside"):
        (base / name).mkdir(parents=True)
    (base / "home/out").symlink_to(base / "secret")
    (base / "home/up").symlink_to("../secret")
    (base / "home/twice").symlink_to("up")
    (base / "home/loop").symlink_to("loop")
    (base / "home/in").symlink_to("src")
    (base / "home/etc").symlink_to("/etc")
    (base / "beside/home").symlink_to("../home")
    (base / "beside/far").symlink_to(base / "home/out/deep")
    return base


def home(base):
    return Mount(str(base / "home"), "/home/me")


@pytest.mark.parametrize(
    ("path", "real", "links"),
    [
        ("home/src", "home/src", []),
        ("home/src/../src/./deep", "home/src/deep", []),
        ("home/out/deep", "secret/deep", ["home/out"]),
        ("home/twice", "secret", ["home/twice", "home/up"]),
        ("beside/home/src", "home/src", ["beside/home"]),
        ("beside/far", "secret/deep", ["beside/far", "home/out"]),
        ("home/not/there", "home/not/there", []),
    ],
)
def test_how_a_path_resolves(base, path, real, links):
    found = way_of(f"{base}/{path}")
    assert found == (str(base / real), tuple(str(base / link) for link in links))
    assert found.real == os.path.realpath(f"{base}/{path}")


def test_a_circle_ends(base):
    with pytest.raises(OSError, match="symbolic links"):
        way_of(str(base / "home/loop"))


@pytest.mark.parametrize("path", LINKED)
@pytest.mark.parametrize("outer", ["home", "beside/home", "home/src/.."])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_link_in_another_share_is_refused(base, path, outer, readonly):
    """By what folders are, not by their names; a read-only share may have been writable before."""
    mount = Mount(str(base / path), "/data")
    mounts = [Mount(f"/{base}/{outer}", "/home/me", readonly=readonly), mount]
    with pytest.raises(DistrustedError):
        unlinked_path(mount, mounts)
    assert unlinked_path(mount, [mount, Mount(str(base / "home/src"), "/s")]) in ("", str(base / "home/src"))


@pytest.mark.parametrize(
    ("path", "inside"), [("home/src", True), ("home/src/deep", True), ("beside/home/src", True), ("secret", False)]
)
def test_other_ways_are_taken_without_a_link_where_containers_write(base, path, inside):
    mount = Mount(str(base / path), "/data")
    unlinked = unlinked_path(mount, [home(base), mount])
    assert unlinked == (os.path.realpath(mount.source) if inside else "")
    tree = Tree(mount.source, unlinked=unlinked)
    assert os.path.samestat(tree.stat(""), Path(mount.source).stat())
    assert tree.is_current()
    tree.close()


@pytest.mark.parametrize("swapped", ["home/src", "home/src/deep", "home/src/deep/er"])
def test_what_becomes_a_link_while_it_is_opened_is_refused(base, swapped):
    wanted = base / "home/src/deep/er"
    wanted.mkdir()
    os.close(open_unlinked(str(wanted)))
    (base / swapped).rename(base / "moved")
    (base / swapped).symlink_to(base / "moved")
    assert wanted.is_dir(), "whoever follows links is led there"
    with pytest.raises(OSError):  # noqa: PT011 - ENOTDIR or ELOOP
        Tree(str(wanted), unlinked=str(wanted))


def test_folders_above_need_not_be_readable(base):
    (base / "home").chmod(0o111)
    try:
        os.close(open_unlinked(str(base / "home/src")))
        os.close(open_unlinked("/"))
    finally:
        (base / "home").chmod(0o755)


def test_the_reason(base):
    shares = [home(base), Mount(str(base / "home/up"), "/my data", readonly=True)]
    why = why_not(shares[1], shares)
    assert why.startswith(f"its path leads through a link in {base}/home, where a container could have put it; if that")
    assert why_not(shares[0], shares) is None
    assert why_not(Mount(str(base / "home/nothing"), "/x"), shares) == "there is no such folder"
    assert why_not(Mount(str(base / "home/loop"), "/x"), shares).startswith("it cannot be read: ")


@pytest.mark.parametrize("path", LINKED)
def test_a_link_that_was_named_leads_where_it_led_then(base, path):
    mount = as_typed(Mount(str(base / path), "/data"), [home(base)])
    assert mount == Mount(str(base / path), "/data")
    assert unlinked_path(mount, [home(base), mount]) == os.path.realpath(mount.source)
    for link in ("home/out", "home/up", "home/in"):
        (base / link).unlink()
        (base / link).symlink_to(base / "beside")
    (base / "beside/deep").mkdir()
    assert "and leads elsewhere now" in why_not(mount, [home(base), mount])


def test_where_a_named_link_is_in_the_guest(base):
    """At its own path, but where the guest has the link already: there it is where the link leads."""
    outer = [Mount(f"{base}/home", f"{base}/home")]
    for source, target, mounts, there in (
        ("home/out", "home/out", outer, "secret"),
        ("home/in", "home/in", outer, "home/src"),
        ("home/src", "home/src", outer, "home/src"),
        ("home/out", "elsewhere", outer, "elsewhere"),
        ("home/out", "home/out", [Mount(f"{base}/home", "/h")], "home/out"),
        ("home/out", "home/out", [], "home/out"),
        ("beside/home", "beside/home", outer, "beside/home"),
    ):
        found = as_typed(Mount(f"{base}/{source}", f"{base}/{target}"), mounts)
        assert found.target == f"{base}/{there}"
        assert found.leads_to == ("" if source == "home/src" else os.path.realpath(f"{base}/{source}"))
    with pytest.raises(ValueError, match="leads to '/etc', which would cover /etc"):
        as_typed(Mount(f"{base}/home/etc", f"{base}/home/etc"), outer)
    assert as_typed(Mount(f"{base}/home/etc", "/data"), outer).leads_to == "/etc"


def test_a_folder_with_a_line_end_in_its_name_is_refused(base):
    (base / "two\nlines").mkdir()
    (base / "home/lines").symlink_to(base / "two\nlines")
    for target in ("/data", f"{base}/home/lines"):
        with pytest.raises(ValueError, match="line end"):
            as_typed(Mount(f"{base}/home/lines", target), [Mount(f"{base}/home", f"{base}/home")])


def test_an_outer_share_counts_where_it_led_when_its_link_is_gone(base):
    """A container of another share can take that link away."""
    inner = base / "secret/proj"
    inner.symlink_to(base / "beside")
    outer = as_typed(Mount(str(base / "home/out"), "/big"), [home(base)])
    mounts = [home(base), outer, Mount(str(inner), "/proj")]
    assert why_not(mounts[2], mounts) is not None
    (base / "home/out").unlink()
    assert why_not(mounts[2], mounts) is not None
    (base / "home/out").symlink_to("/tmp")
    assert why_not(mounts[2], mounts) is not None


def test_what_the_guest_has_already(base):
    mounts = [Mount(f"{base}/home", f"{base}/home")]
    for name, there in (("src", True), ("in", True), ("out", False)):
        mount = as_typed(Mount(f"{base}/home/{name}", f"{base}/home/{name}"), mounts)
        assert is_there(mount, mounts) is there, name
        assert is_there(mount, [*mounts, mount])
        assert not is_there(replace(mount, readonly=True), [*mounts, mount])
        assert why_not(mount, [*mounts, mount]) is None


@pytest.mark.parametrize(("name", "there"), [("out", "secret"), ("in", "home/src"), ("twice", "secret")])
def test_a_folder_by_a_link_is_where_the_link_leads_whichever_share_comes_first(base, name, there):
    outer = Mount(f"{base}/home", f"{base}/home")
    inner = Mount(f"{base}/home/{name}", f"{base}/home/{name}")
    first, last = as_typed(inner, []), as_typed(inner, [outer])
    assert (first.target, last.target) == (inner.target, f"{base}/{there}")
    assert moved_by(outer, [first, Mount("/other", "/other")]) == [(first, last)]
    assert moved_by(outer, [last]) == []
    assert why_not(last, [outer, last]) is None


def test_a_folder_that_is_not_there_by_the_new_share_stays_where_it_is(base):
    inner = as_typed(Mount(f"{base}/home/out", f"{base}/home/out"), [])
    assert moved_by(Mount(f"{base}/home", "/h"), [inner]) == [], "its own place is no link there"
    assert moved_by(Mount(f"{base}/home", f"{base}/home"), [replace(inner, target="/data")]) == []
    assert moved_by(Mount(f"{base}/beside", f"{base}/beside"), [inner]) == []


def test_a_link_that_a_container_may_have_put_moves_nothing(base):
    outer, inner = Mount(f"{base}/home", f"{base}/home"), Mount(f"{base}/home/out", f"{base}/home/out")
    named = as_typed(inner, [])
    (base / "home/out").unlink()
    (base / "home/out").symlink_to(base / "beside")
    assert moved_by(outer, [inner]) == []
    assert moved_by(outer, [named]) == []


def test_a_folder_by_a_link_that_can_be_nowhere_else_is_told(base):
    inner = as_typed(Mount(f"{base}/home/etc", f"{base}/home/etc"), [])
    with pytest.raises(ValueError, match=r"home/etc leads to '/etc', which would cover /etc"):
        moved_by(Mount(f"{base}/home", f"{base}/home"), [inner])


@pytest.mark.parametrize("name", ["out", "out/deep"])
def test_a_named_link_is_there_when_it_is_named_again(base, name):
    outer = Mount(f"{base}/home", f"{base}/home")
    mounts = [outer, as_typed(Mount(f"{base}/home/out", f"{base}/home/out"), [outer])]
    again = as_typed(Mount(f"{base}/home/{name}", f"{base}/home/{name}"), mounts)
    assert again.target == f"{base}/home/{name}".replace("home/out", "secret")
    assert is_there(again, mounts)


def test_options_and_the_file_keep_where_it_led(base, monkeypatch):
    own = (Mount(f"{base}/home", f"{base}/home"),)
    for module in ("model", "sources"):
        monkeypatch.setattr(f"hostvm.shares.{module}.default_mounts", lambda: own)
    found = typed_mounts([f"{base}/home/out:/data"])
    assert [(one.target, one.leads_to) for one in found] == [("/data", str(base / "secret")), (f"{base}/home", "")]
    again = Mounts().read(render_mounts(found))
    assert [one.leads_to for one in again] == [str(base / "secret"), ""]
    assert replace(found[0], leads_to="") == found[0], "where it led is not another setting"
    with pytest.raises(ValueError, match=r"home/etc leads to '/etc', which would cover /etc"):
        typed_mounts([f"{base}/home/etc"])


def test_a_home_by_a_link_that_another_share_holds(base, monkeypatch):
    """As where /home leads to /var/home, and the whole disk is shared, too."""
    own = (Mount(f"{base}/beside/home", f"{base}/beside/home"),)
    for module in ("model", "sources"):
        monkeypatch.setattr(f"hostvm.shares.{module}.default_mounts", lambda: own)
    found = typed_mounts([f"{base}:/host:ro"])
    assert {one.target: one.leads_to for one in found} == {f"{base}/beside/home": f"{base}/home", "/host": ""}
    assert [why_not(one, found) for one in found] == [None, None]
