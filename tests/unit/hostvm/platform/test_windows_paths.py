import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.errors import ForwardError
from hostvm.platform.windows_paths import guest_folder, guest_path, has_drive, is_relative, windows_path

HERE = r"C:\Users\me\src"


@pytest.mark.parametrize(
    ("told", "guest"),
    [
        # the five spellings, and those of Cygwin and of Docker Desktop's WSL guest
        (r"C:\x\y", "/c/x/y"),
        ("c:/x/y", "/c/x/y"),
        ("/c/x/y", "/c/x/y"),
        ("/C/x/y", "/c/x/y"),
        ("/host_mnt/c/x/y", "/c/x/y"),
        ("/mnt/c/x/y", "/c/x/y"),
        ("/cygdrive/c/x/y", "/c/x/y"),
        ("/run/desktop/mnt/host/c/x/y", "/c/x/y"),
        ("//c/x/y", "/c/x/y"),
        # roots, trailing and doubled separators, dots
        ("C:\\", "/c"),
        ("d:", "/d"),
        ("/d", "/d"),
        ("C:\\x\\", "/c/x"),
        (r"C:\\x\\y", "/c/x/y"),
        (r"C:\x\..\y\.\z", "/c/y/z"),
        (r"C:\..\..\x", "/c/x"),
        # extended-length
        (r"\\?\C:\x", "/c/x"),
        ("//?/C:/x", "/c/x"),
        (r"\\.\C:\x", "/c/x"),
        # names that need no care
        (r"C:\Program Files (x86)\a,b;c", "/c/Program Files (x86)/a,b;c"),
        ("C:\\Users\\J\u00f6rg\\\u65e5\u672c", "/c/Users/J\u00f6rg/\u65e5\u672c"),
        # relative ones
        (".", "/c/Users/me/src"),
        ("..", "/c/Users/me"),
        (r".\app", "/c/Users/me/src/app"),
        (r"..\app\web", "/c/Users/me/app/web"),
        ("app/web", "/c/Users/me/src/app/web"),
        ("C:app", "/c/Users/me/src/app"),
        # the guest's own
        ("/var/run/docker.sock", "/var/run/docker.sock"),
        ("//var/run/docker.sock", "/var/run/docker.sock"),
        ("/", "/"),
        ("//tmp", "/tmp"),
        ("/mnt/data", "/mnt/data"),
        ("/cc/x", "/cc/x"),
    ],
)
def test_guest_path(told, guest):
    assert guest_path(told, HERE) == guest


@pytest.mark.parametrize("told", [r"\\server\share\x", "//server/share/x", r"\\?\UNC\server\share", r"\\wsl$\Debian"])
def test_network_folders_are_refused(told):
    with pytest.raises(ForwardError) as caught:
        guest_path(told, HERE)
    assert "network folder" in caught.value.brief
    assert "net use" in caught.value.resolution


@pytest.mark.parametrize("told", [r"\\.\pipe\docker_engine", "//./pipe/docker_engine", r"\\?\Volume{1-2}\x"])
def test_windows_devices_are_no_folders_of_the_guest(told):
    """Taken for a relative path one would be an empty folder in the container."""
    with pytest.raises(ForwardError) as caught:
        guest_path(told, HERE)
    assert caught.value.brief == f"{told} is a pipe or device of Windows, which the guest cannot see"
    assert "-v /var/run/docker.sock:/var/run/docker.sock" in (caught.value.resolution or "")


def test_another_drives_current_folder_is_refused():
    with pytest.raises(ForwardError) as caught:
        guest_path("d:x/y", HERE)
    assert r"d:\folder\x\y" in caught.value.resolution


def test_guest_folder():
    assert guest_folder(HERE) == "/c/Users/me/src"
    assert guest_folder(r"\\server\share") is None


def test_without_a_folder_relative_stays_relative():
    assert guest_path(r"a\b") == "a/b"


@pytest.mark.parametrize(
    ("guest", "windows"),
    [
        ("/c/x/y", r"C:\x\y"),
        ("/c", "C:\\"),
        ("/c/", "C:\\"),
        ("/z/a b", r"Z:\a b"),
        ("/var/x", None),
        ("c/x", None),
        ("/C/x", None),
    ],
)
def test_windows_path(guest, windows):
    assert windows_path(guest) == windows


@pytest.mark.parametrize("word", [r"C:\x", "c:/x", "/c/x", "/mnt/c/x", r"\\server\share", "c:x", "//c/x"])
def test_has_drive(word):
    assert has_drive(word)


@pytest.mark.parametrize("word", ["data", "data:/x", "/var/lib", "./x", "x/y", "", "-"])
def test_has_no_drive(word):
    assert not has_drive(word)


def test_is_relative():
    assert all(is_relative(word) for word in (".", "..", "./x", r".\x", r"..\x"))
    assert not any(is_relative(word) for word in ("data", ".hidden", "..x", "/x", r"C:\x", ""))


# What Windows allows in a name, less trailing dots and spaces, which it drops.
NAMES = st.text(st.characters(exclude_characters='\\/:*?"<>|', exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
PARTS = st.lists(NAMES.filter(lambda name: name.strip(". ") == name), max_size=5)
DRIVES = st.sampled_from("CDZcz")


@given(DRIVES, PARTS)
def test_every_spelling_is_one_place(drive, parts):
    tail = "/".join(parts)
    spellings = [
        f"{drive}:/{tail}",
        f"{drive}:\\" + "\\".join(parts),
        f"/{drive}/{tail}",
        f"//{drive}/{tail}",
        f"/mnt/{drive}/{tail}",
        f"/host_mnt/{drive}/{tail}",
        f"\\\\?\\{drive}:\\" + "\\".join(parts),
    ]
    assert len({guest_path(spelling, HERE) for spelling in spellings}) == 1


@given(DRIVES, PARTS)
def test_round_trip(drive, parts):
    path = f"{drive.upper()}:\\" + "\\".join(parts)
    guest = guest_path(path, HERE)
    assert windows_path(guest) == path
    assert guest_path(windows_path(guest), HERE) == guest
    assert guest_path(guest, HERE) == guest


@given(st.text(max_size=20))
def test_anything_is_an_absolute_path_or_a_clear_error(text):
    with contextlib.suppress(ForwardError):
        found = guest_path(text, HERE)
        assert found.startswith("/")
        assert not re.search(r"(^|/)\.\.?(/|$)", found)
