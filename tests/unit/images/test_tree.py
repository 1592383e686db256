from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.errors import ImageError
from images.tree import Kind, Tree, add_package, check_path, write_tar


@pytest.fixture
def add(tmp_path, make):
    def add(tree: Tree, origin: str, *entries):
        path = tmp_path / f"{origin}.tar"
        path.write_bytes(make.tar(list(entries)))
        return add_package(tree, path, origin)

    return add


def packed(tree: Tree) -> bytes:
    out = io.BytesIO()
    write_tar(tree, out, 1000)
    return out.getvalue()


def test_modes_owners_links_and_hard_links_are_kept(add, make):
    tree = Tree()
    paths = add(
        tree,
        "p",
        make.entry("/"),
        make.entry("usr/"),
        make.entry("usr/b", b"data", mode=0o4755, uid=3, gid=4),
        make.link("usr/c", "b"),
        make.entry("usr/a", type=tarfile.LNKTYPE, linkname="./usr/b"),
    )
    assert paths == ["", "usr", "usr/b", "usr/c", "usr/a"]
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as tar:
        members = {member.name: member for member in tar}
        assert list(members) == [".", "./usr", "./usr/a", "./usr/b", "./usr/c"]
        assert tar.extractfile("./usr/b").read() == b"data"
    first, second = members["./usr/a"], members["./usr/b"]
    assert (first.mode, first.uid, first.gid, first.size, first.mtime) == (0o4755, 3, 4, 4, 1000)
    assert (second.type, second.linkname) == (tarfile.LNKTYPE, "./usr/a")
    assert (members["./usr/c"].type, members["./usr/c"].linkname) == (tarfile.SYMTYPE, "b")
    assert tree.size() == 4
    assert tree.newest == 1_700_000_000


@pytest.mark.parametrize("locale", ["iso-8859-1", "euc_jp"])
def test_names_are_not_read_as_this_computers_locale_has_them(tmp_path, make, monkeypatch, locale):
    path, names = tmp_path / "p.tar", ["usr", "usr/Főtanúsítvány.crt", "usr/link"]
    path.write_bytes(make.tar([make.entry("usr/"), make.entry(names[1], b"data"), make.link(names[2], names[1])]))
    monkeypatch.setattr(tarfile.TarFile, "encoding", locale)
    tree = Tree()
    assert add_package(tree, path, "p") == names
    assert tree.nodes["usr/link"].target == names[1]
    again = tmp_path / "again.tar"
    again.write_bytes(packed(tree))
    assert f"./{names[1]}".encode() in again.read_bytes()
    assert add_package(Tree(), again, "p") == ["", *names]


@pytest.mark.parametrize("name", ["usr/a", "usr/b"])
def test_a_mode_is_that_of_all_names_of_a_file(add, make, name):
    """As on any system; the tar has it of the first name alone."""
    tree = Tree()
    hard = make.entry("usr/b", type=tarfile.LNKTYPE, linkname="./usr/a")
    add(tree, "p", make.entry("usr/a", b"data"), hard, make.entry("usr/c", b"data"))
    tree.chmod(name, 0o4755)
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as tar:
        assert [tar.getmember(f"./usr/{one}").mode for one in "abc"] == [0o4755, 0o4755, 0o644]


def test_the_same_packages_give_the_same_bytes_in_any_order(add, make):
    one = [make.entry("usr/"), make.entry("usr/x", b"1")]
    two = [make.entry("usr/"), make.entry("usr/y", b"2")]
    first, second = Tree(), Tree()
    add(first, "one", *one)
    add(first, "two", *two)
    add(second, "two", *two)
    add(second, "one", *one)
    assert packed(first) == packed(second)


def test_merged_usr(add, make):
    tree = Tree()
    add(tree, "base-files", make.entry("usr/"), make.entry("usr/bin/"), make.link("bin", "usr/bin"))
    add(tree, "old", make.entry("bin/"), make.entry("bin/tool", b"x"), make.entry("lib/"), make.entry("lib/l", b"y"))
    assert tree.nodes["bin"].kind is Kind.LINK
    assert tree.read("/bin/tool") == tree.read("usr/bin/tool") == b"x"
    assert tree.read("usr/lib/l") == b"y"


def test_files_behind_a_link_land_where_it_leads(add, make):
    tree = Tree()
    add(tree, "base-files", make.entry("run/"), make.entry("var/"), make.link("var/run", "/run"))
    add(tree, "p", make.entry("var/run/"), make.entry("var/run/x", b"1"))
    assert tree.read("run/x") == b"1"
    assert "var/run/x" not in tree.nodes


def test_links_that_go_in_circles(add, make):
    tree = Tree()
    with pytest.raises(ImageError, match="cannot be reached"):
        add(tree, "p", make.link("a", "b"), make.link("b", "a"), make.entry("a/x", b""))


@pytest.mark.parametrize("name", ["../etc/passwd", "usr/../../x", "a/../../b"])
def test_names_that_leave_the_tree_are_refused(add, make, name):
    with pytest.raises(ImageError, match="leaves the tree"):
        add(Tree(), "p", make.entry(name, b""))


def test_links_cannot_lead_out(add, make):
    tree = Tree()
    add(tree, "p", make.link("out", "../../.."), make.entry("out/x", b"1"))
    assert "x" in tree.nodes  # as in a chroot: above the root is the root


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(add, make, kind):
    with pytest.raises(ImageError, match="neither file, folder nor link"):
        add(Tree(), "p", make.entry("dev/x", type=kind))


def test_a_hard_link_to_a_link_is_another_such_link(add, make):
    """busybox's tar writes those of a link with several names."""
    tree = Tree()
    add(
        tree,
        "p",
        make.link("usr/a", "../x"),
        make.entry("usr/b", type=tarfile.LNKTYPE, linkname="usr/a"),
        make.link("far", "/usr/a"),
        make.entry("near", type=tarfile.LNKTYPE, linkname="far"),
    )
    assert tree.nodes["usr/b"] == tree.nodes["usr/a"]
    assert (tree.nodes["usr/b"].kind, tree.nodes["usr/b"].target) == (Kind.LINK, "../x")
    assert tree.nodes["near"].target == "/usr/a"
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as tar:
        assert (tar.getmember("./usr/b").type, tar.getmember("./usr/b").linkname) == (tarfile.SYMTYPE, "../x")


def test_a_hard_link_to_a_folder_is_refused(add, make):
    with pytest.raises(ImageError, match="neither file"):
        add(Tree(), "p", make.entry("y/"), make.entry("x", type=tarfile.LNKTYPE, linkname="./y"))


def test_a_hard_link_to_nothing_is_refused(add, make):
    with pytest.raises(ImageError, match="neither file"):
        add(Tree(), "p", make.entry("x", type=tarfile.LNKTYPE, linkname="./y"))


def test_two_packages_may_ship_the_same_file_but_not_different_ones(add, make):
    tree = Tree()
    add(tree, "one", make.entry("x", b"same"))
    add(tree, "two", make.entry("x", b"same"))
    with pytest.raises(ImageError) as error:
        add(tree, "three", make.entry("x", b"other"))
    assert error.value.details == "two and three"


def test_dropping(add, make):
    tree = Tree()
    add(tree, "p", *(make.entry(name) for name in ("a/", "a/b/")), make.entry("a/b/c", b""), make.entry("ab", b""))
    assert tree.drop(["/a/b"]) == 2
    assert sorted(tree.nodes) == ["", "a", "ab"]
    tree.drop(["a*"])
    assert sorted(tree.nodes) == [""]


def test_a_file_cannot_replace_a_folder_with_content():
    tree = Tree()
    tree.add_file("a/b", b"")
    with pytest.raises(ImageError, match="is a folder with content"):
        tree.add_file("a", b"")
    with pytest.raises(ImageError, match="/a/b is not a folder"):
        tree.add_file("a/b/c", b"")
    with pytest.raises(ImageError, match="cannot be reached"):
        tree.add_file("a/b/c/d", b"")


def test_reading_what_is_not_there():
    with pytest.raises(ImageError) as error:
        Tree().read("/usr/bin/mkfs")
    assert error.value.brief == "the image lacks /usr/bin/mkfs"
    with pytest.raises(ImageError):
        Tree().chmod("x", 0o600)


@given(st.text(alphabet="ab./\\\0", max_size=20))
def test_a_checked_path_stays_inside(path):
    try:
        checked = check_path(path)
    except ImageError:
        return
    assert not checked.startswith("/")
    assert ".." not in checked.split("/")
