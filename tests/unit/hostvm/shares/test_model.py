"""What people write for a shared folder, and where a path of theirs is in the guest."""

from __future__ import annotations

import errno
import os
import sys

import pytest
import yaml

from hostvm.errors import SpecError
from hostvm.shares import model
from hostvm.shares.model import (
    Mount,
    check_source,
    default_mounts,
    guest_path,
    make_mount,
    option_mounts,
    parse_mount,
)
from hostvm.shares.settings import Mounts, render_mounts
from hostvm.spec import default_spec, load_spec, parse_settings, render_spec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data", Mount("/data", "/data")),
        ("/data/", Mount("/data", "/data")),
        ("/data:ro", Mount("/data", "/data", readonly=True)),
        ("/data:rw", Mount("/data", "/data")),
        ("/data:/photos", Mount("/data", "/photos")),
        ("/data:/photos/x/../y:ro", Mount("/data", "/photos/y", readonly=True)),
        ("~/src:/src", Mount("/home/me/src", "/src")),
        ("/a b/ü:/c d", Mount("/a b/ü", "/c d")),
        ("/private/tmp/x:/tmp/x", Mount("/private/tmp/x", "/tmp/x")),
        ("/var/folders/xy", Mount("/var/folders/xy", "/var/folders/xy")),
    ],
)
def test_words_of_the_option(text, mount):
    assert parse_mount(text) == mount
    assert parse_mount(mount.text()) == mount


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no folder"),
        ("/a:/b:/c", "is not SRC[:DST[:ro]]"),
        ("/a:b", "not absolute: b"),
        ("/a:/", "would cover /"),
        ("/proc/sys", "would cover /proc/sys"),
        ("/a:/var/lib/docker", "would cover /var/lib/docker"),
        ("/a:/run/../sys", "would cover /sys"),
        ("/a:/tmp", "would cover /tmp"),
        ("/a:/var/folders", "would cover /var/folders"),
        ("/a\nb", "line end"),
    ],
)
def test_words_that_cannot_be_meant(text, why):
    with pytest.raises(ValueError, match=why.replace("[", r"\[").replace("]", r"\]")):
        parse_mount(text)


def test_windows_drives_become_folders(monkeypatch):
    import ntpath

    monkeypatch.setattr(model.os, "path", ntpath)
    monkeypatch.setattr(model.os, "sep", "\\")
    assert model.default_target("C:\\Users\\me") == "/c/Users/me"


def test_the_home_folder_is_shared_unless_told_otherwise():
    home = Mount("/home/me", "/home/me")
    assert default_spec().mounts == default_mounts() == (home,)
    assert parse_settings({"mounts": []}, default_spec(), "x").mounts == ()


def test_a_home_that_is_the_systems_own_is_not_shared(monkeypatch):
    for folder in ("/", "/var/lib/nobody"):
        monkeypatch.setenv("HOME", folder)
        assert default_mounts() == ()


def test_options_add_to_the_home_folder(tmp_path):
    home, data = Mount("/home/me", "/home/me"), Mount(str(tmp_path), "/data")
    assert option_mounts([f"{tmp_path}:/data"]) == (data, home)
    assert option_mounts(["none"]) == ()
    assert option_mounts(["none", f"{tmp_path}:/data"]) == (data,)
    assert option_mounts([f"{tmp_path}:/home/me"]) == (Mount(str(tmp_path), "/home/me"),)


def test_options_add_to_what_a_template_shares_and_not_to_the_home_folder_then(tmp_path):
    data, src = Mount(str(tmp_path), "/data"), Mount("/home/me/src", "/src", readonly=True)
    assert option_mounts([f"{tmp_path}:/data"], ()) == (data,)
    assert option_mounts([f"{tmp_path}:/data"], (src,)) == (data, src)
    assert option_mounts(["none", f"{tmp_path}:/data"], (src,)) == (data,)


def test_a_written_list_is_read_back(tmp_path):
    mounts = Mounts().read(
        ["/b", {"source": "/a", "target": "/x", "readonly": True}, {"source": "/a/in", "kind": "sftp"}],
    )
    assert mounts == (Mount("/a/in", "/a/in", kind="sftp"), Mount("/b", "/b"), Mount("/a", "/x", readonly=True))
    assert Mounts().read(yaml.safe_load(yaml.safe_dump(render_mounts(mounts)))) == mounts
    path = tmp_path / "machine.yaml"
    spec = parse_settings({"mounts": mounts}, default_spec(), "x")
    path.write_text(render_spec(spec))
    assert load_spec(path) == spec


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("/a", "must be a list"),
        ([5], "mounts[0]: 5 must be a mapping with: source, target, readonly, kind"),
        (
            [{"source": "/a", "mode": "ro"}],
            "mounts[0].mode: unknown key; known ones are source, target",
        ),
        ([{"source": "/a", "readonly": "yes"}], "mounts[0].readonly: yes must be true or false"),
        (["/b", {"source": "/a", "kind": "smb"}], "mounts[1].kind: smb must be one of: auto, 9p"),
        (["/b", {"source": "/a", "target": "/usr/x"}], "mounts[1].target: /usr/x would cover /usr/x"),
        ([{"target": "/a"}], "mounts[0].source: is missing"),
        (["/a", "/b:/a"], "mounts[1]: has the target /a, as another one"),
    ],
)
def test_faults_of_the_file(value, why):
    with pytest.raises(SpecError) as caught:
        parse_settings({"mounts": value}, default_spec(), "machine.yaml")
    assert why in caught.value.details


def test_what_lies_inside_comes_later():
    inner, outer, beside = (make_mount(path) for path in ("/a/b", "/a", "/a-b"))
    assert Mounts().read((inner, beside, outer)) == (outer, inner, beside)


def test_a_folder_that_cannot_be_shared(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    told = {name: check_source(make_mount(str(tmp_path / name))) for name in ("", "file", "loop", "missing")}
    assert told[""] is None
    assert told["file"] == "it is not a folder"
    assert told["missing"] == "there is no such folder"
    assert "Too many levels of symbolic links" in told["loop"]


def test_a_folder_that_shows_its_names_alone_cannot_be_shared(monkeypatch, tmp_path):
    """Mode r--: it can be listed, and nothing in it opened. Root, who may run these tests, is never refused."""
    real = os.stat

    def stat(path, *words, **more):
        if str(path) == f"{tmp_path}{os.sep}.":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *words, **more)

    monkeypatch.setattr(os, "stat", stat)
    assert check_source(make_mount(str(tmp_path))) == "it cannot be read: Permission denied"


def test_a_path_here_is_found_in_the_guest(tmp_path):
    real = tmp_path / "real"
    (real / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    mounts = [make_mount("/home/me"), make_mount("/home/me/src", "/src"), make_mount(str(tmp_path / "link"), "/l")]
    assert guest_path(mounts, "/home/me") == "/home/me"
    assert guest_path(mounts, "/home/me/a b") == "/home/me/a b"
    assert guest_path(mounts, "/home/me/src/x") == "/src/x"
    assert guest_path(mounts, "/home/mean") is None
    assert guest_path(mounts, os.path.realpath(tmp_path / "link" / "in")) == "/l/in"
