"""Which paths that are named to the engine are folders of this computer, and where the guest has them."""

from __future__ import annotations

import sys

import pytest

from hostvm.errors import ForwardError
from hostvm.shares.model import Mount
from hostvm.shares.named import cut_bind, engine_path, is_whole, told_path

posix = pytest.mark.skipif(sys.platform == "win32", reason="these are POSIX paths")
MOUNTS = [Mount("/home/me", "/home/me"), Mount("/data/src", "/src")]
WHOLE = [Mount("/", "/computer"), Mount("/var/lib/app", "/app")]


@posix
@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("/home/me", "/home/me"),
        ("/home/me/a/../b", "/home/me/b"),
        ("/data/src/a", "/src/a"),
        ("a", "/home/me/p/a"),
        ("..", "/home/me"),
    ],
)
def test_a_folder_of_a_share(source, becomes):
    assert engine_path(source, MOUNTS, folder="/home/me/p") == becomes


GUESTS = [
    *("/", "/proc", "/sys/fs/cgroup", "/dev/null", "/etc/localtime", "/lib/modules", "/lib/modules/6.12"),
    *("/var/lib/docker", "/var/run/docker.sock", "/run/docker.sock", "/var/log/journal"),
]


@posix
@pytest.mark.parametrize("path", GUESTS)
def test_the_guests_own(path):
    assert engine_path(path, MOUNTS) == path
    assert told_path(path, MOUNTS, list, "") == path


@posix
def test_a_share_of_the_whole_computer_leaves_the_guest_its_own():
    assert [engine_path(path, WHOLE) for path in GUESTS[1:]] == GUESTS[1:]
    assert engine_path("/", WHOLE) == "/computer"
    assert engine_path("/opt/x", WHOLE) == "/computer/opt/x"
    assert engine_path("/var/lib/app/x", WHOLE) == "/app/x"


@posix
def test_a_link_leads_into_a_share_but_not_from_what_is_the_guests(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "link").symlink_to(shared)
    mounts = [Mount(str(shared), "/w")]
    assert engine_path(f"{tmp_path}/link/a", mounts) == "/w/a"
    monkeypatch.setattr("hostvm.shares.named._GUESTS", (str(tmp_path / "link"),))
    assert engine_path(f"{tmp_path}/link/a", mounts) == f"{tmp_path}/link/a"


@posix
def test_a_further_disk_is_asked_for_only_when_nothing_is_shared():
    assert engine_path("/home/me/a", MOUNTS, pytest.fail) == "/home/me/a"
    assert engine_path("/srv/scratch/a", MOUNTS, lambda: ["/srv/scratch"]) == "/srv/scratch/a"
    with pytest.raises(ForwardError):
        engine_path("/srv/scratchy", MOUNTS, lambda: ["/srv/scratch"])


@posix
def test_what_is_not_shared_is_told_with_the_command_that_shares_it(tmp_path):
    (tmp_path / "file").write_text("")
    for name, offered in ((".", "."), ("absent", "absent"), ("file", ".")):
        path = tmp_path / name
        with pytest.raises(ForwardError) as caught:
            engine_path(str(path), MOUNTS, option=" -m box")
        assert caught.value.brief == f"{path} is not shared with the machine"
        assert caught.value.details.endswith("shared are: /home/me, /data/src")
        assert caught.value.resolution.splitlines() == [
            f"hostvm mount add {tmp_path / offered} -m box",
            "or, if a path of the guest is meant: hostvm shell -m box -- docker run ...",
        ]


@posix
def test_nothing_at_all_is_shared():
    with pytest.raises(ForwardError, match="/a is not shared") as caught:
        engine_path("/a", [])
    assert caught.value.details.endswith("shared are: none")


@posix
@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("/src/a", "/src/a"),
        ("/src", "/src"),
        ("/src/", "/src/"),
        ("//home/me/a", "//home/me/a"),
        ("/data/src/a", "/src/a"),
        ("//var/run/docker.sock", "//var/run/docker.sock"),
    ],
)
def test_a_docker_client_may_name_the_guests_path_of_a_share(source, becomes):
    assert told_path(source, MOUNTS, list, "") == becomes


@posix
@pytest.mark.parametrize("source", ["/srcs", "/src/../data", "/nowhere"])
def test_other_paths_of_a_docker_client_are_refused(source):
    with pytest.raises(ForwardError, match="is not shared"):
        told_path(source, MOUNTS, list, "")


@pytest.mark.parametrize(
    "path", ["/var/run/docker.sock", "/", "/proc", "/etc/localtime", "//var/run/docker.sock", "/srv/scratch"]
)
def test_on_windows_a_path_without_a_drive_is_the_guests(path):
    assert engine_path(path, [], pytest.fail, platform="win32") == path


@pytest.mark.parametrize("path", ["/c/other/x", "/host_mnt/c/other/x", "/mnt/c/other/x"])
def test_on_windows_a_drive_that_is_not_shared_is_told_as_windows_has_it(path):
    with pytest.raises(ForwardError) as caught:
        engine_path(path, [Mount(r"C:\Users\me", "/c/Users/me")], platform="win32")
    assert caught.value.brief == r"C:\other\x is not shared with the machine"


WINDOWS = [Mount(r"C:\Users\me", "/c/Users/me"), Mount("D:\\proj", "/proj")]


@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        (r"C:\Users\me", "/c/Users/me"),
        (r"c:/Users/me\a b", "/c/Users/me/a b"),
        (r"\\?\C:\Users\me\a", "/c/Users/me/a"),
        ("/c/Users/me/a", "/c/Users/me/a"),
        (r"D:\proj\..\proj\a", "/proj/a"),
        ("/proj/a", "/proj/a"),
        ("/mnt/d/proj/a", "/proj/a"),
        ("//var/run/docker.sock", "//var/run/docker.sock"),
    ],
)
def test_windows_paths_of_a_docker_client(source, becomes, monkeypatch):
    monkeypatch.setattr("hostvm.shares.model.os.sep", "\\")
    assert told_path(source, WINDOWS, list, "", platform="win32") == becomes


@pytest.mark.parametrize(
    ("source", "told"),
    [(r"C:\other", r"C:\other is not shared"), (r"e:/", "E:\\"), (r"\\server\share", "network folder")],
)
def test_windows_paths_of_a_docker_client_that_are_refused(source, told):
    with pytest.raises(ForwardError) as caught:
        told_path(source, WINDOWS, list, "", platform="win32")
    assert told in caught.value.brief


@pytest.mark.parametrize(
    ("bind", "source", "whole"),
    [
        (r"C:\x:/w:ro", r"C:\x", True),
        ("c:/x:/w", "c:/x", True),
        (r"\\?\C:\x:/w", r"\\?\C:\x", True),
        ("/c/x:/w", "/c/x", True),
        ("volume:/w", "volume", False),
        (r".\x:/w", r".\x", False),
    ],
)
def test_the_source_of_a_bind_on_windows(bind, source, whole):
    assert cut_bind(bind, "win32") == (source, bind.removeprefix(source))
    assert is_whole(source, "win32") == whole


def test_the_source_of_a_bind_elsewhere():
    assert cut_bind("c:/x:/w", "linux") == ("c", ":/x:/w")
    assert [is_whole(source, "darwin") for source in ("/x", "x", "C:/x")] == [True, False, False]
