from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

from cli.commands import shim
from cli.engine_link import is_ours, make_link, remove_link
from cli.main import main
from cli.shims import is_shim, launcher, native_client, programs_of
from hostvm.errors import HostvmError
from hostvm.paths import MachinePaths

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="launchers are scripts and links of Unix here")


ABOUT = "%shostvm shim: %s of a machine's engine. Made by 'hostvm shim install', undone by 'hostvm shim rm'.%s%s"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_launcher_whole():
    assert launcher("docker-compose", ["/opt/it's here/hostvm"], "", "linux") == (
        "docker-compose",
        (
            ABOUT % ("#!/bin/sh\n# ", "docker-compose", "\n", "exec '/opt/it'\"'\"'s here/hostvm' compose \"$@\"\n")
        ).encode(),
    )


def test_a_launcher_for_windows_whole():
    assert launcher("docker", ["C:\\Program Files\\100%\\hostvm.exe"], "ci", "win32") == (
        "docker.cmd",
        (
            ABOUT % ("@rem ", "docker", "\r\n", '@"C:\\Program Files\\100%%\\hostvm.exe" "-m" "ci" "docker" %*\r\n')
        ).encode(),
    )


@pytest.mark.parametrize("profile", ["C:\\Users\\J\u00fcrgen", "c:\\users\\j\u00fcrgen\\"])
def test_a_launcher_of_a_user_whose_name_the_consoles_code_page_may_lack(monkeypatch, profile):
    """cmd reads a .cmd in that code page, but has variables in Unicode."""
    monkeypatch.setenv("USERPROFILE", profile)
    _, content = launcher("docker", ["C:\\Users\\J\u00fcrgen\\100%\\hostvm.exe"], "", "win32")
    assert content.splitlines()[1] == b'@"%USERPROFILE%\\100%%\\hostvm.exe" "docker" %*'
    _, content = launcher("docker", ["C:\\Users\\J\u00fcrgens\\hostvm.exe"], "", "win32")
    assert b"USERPROFILE" not in content, "another user's"


def test_the_command_that_adds_a_folder_to_windows_path_leaves_the_rest_of_it_whole(monkeypatch):
    """setx would cut it at 1024 characters; what is pasted is of cmd and of PowerShell, which knows no %PATH%."""
    monkeypatch.setattr(shim, "sys", SimpleNamespace(platform="win32"))
    assert shim._add_to_path(PureWindowsPath("C:\\it's here\\bin")) == (
        "powershell -NoProfile -Command \"[Environment]::SetEnvironmentVariable('Path', "
        "'C:\\it''s here\\bin;' + [Environment]::GetEnvironmentVariable('Path', 'User'), 'User')\""
    )


def test_a_launcher_of_a_checkout_finds_its_modules():
    """It ended with `No module named cli` in every folder but one."""
    command = ["/usr/bin/python3", "-P", "-m", "cli.main"]
    _, content = launcher("docker", command, "", "linux", "/src/my hostvm")
    assert content.endswith(b"\nPYTHONPATH='/src/my hostvm' exec /usr/bin/python3 -P -m cli.main docker \"$@\"\n")
    _, content = launcher("docker", command, "", "win32", "C:\\src\\100%")
    assert b'\n@setlocal & set "PYTHONPATH=C:\\src\\100%%"\r\n@"/usr/bin/python3" "-P"' in content


def test_one_that_is_made_by_a_checkout(folder, tmp_path, monkeypatch):
    """Where no script of hostvm's lies beside the interpreter."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert main(["shim", "install", "--dir", str(folder)]) == 0
    root = Path(__file__).parents[3]
    assert f"PYTHONPATH={root} exec {tmp_path}/python3 -P -m cli.main docker" in (folder / "docker").read_text()


def test_the_programs_of_an_engine():
    assert programs_of("docker") == ["docker", "docker-compose"]
    assert programs_of("none") == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def program(path, content="#!/bin/sh\n"):
    path.write_text(content)
    path.chmod(0o755)


def test_install_and_rm(folder, capsys):
    assert main(["shim", "install", "--dir", str(folder)]) == 0
    assert names(folder) == ["docker", "docker-compose"]
    assert all(is_shim(path) and path.stat().st_mode & stat.S_IXUSR for path in folder.iterdir())
    assert native_client("docker") is None
    assert main(["shim", "install", "--dir", str(folder)]) == 0, "a second time changes nothing"
    assert main(["shim", "ls"]) == 0
    assert str(folder / "docker-compose") in capsys.readouterr().out
    assert main(["shim", "rm"]) == 0
    assert list(folder.iterdir()) == []
    assert main(["shim", "rm"]) == 0


def test_a_native_client_is_not_shadowed_unless_forced(folder, tmp_path, capsys):
    program(folder / "docker")
    other = tmp_path / "other"
    assert main(["shim", "install", "--dir", str(other)]) == 0
    assert names(other) == ["docker-compose"]
    assert f"{folder}/docker is here" in capsys.readouterr().err
    assert main(["shim", "install", "--force", "--dir", str(other)]) == 0
    assert is_shim(other / "docker")


def test_a_file_of_others_is_never_replaced(folder, capsys):
    (folder / "docker").write_text("mine")
    assert main(["shim", "install", "--force", "--dir", str(folder)]) == 0
    assert (folder / "docker").read_text() == "mine"
    assert "left alone" in capsys.readouterr().err
    assert main(["shim", "rm", "--dir", str(folder)]) == 0
    assert names(folder) == ["docker"]


def test_a_home_folder_that_no_shell_has_put_in(folder, tmp_path, monkeypatch):
    """As in `--dir=~/bin`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["shim", "install", "--dir=~/mine"]) == 0
    assert names(tmp_path / "mine") == ["docker", "docker-compose"]
    assert main(["shim", "rm", "--dir=~/mine"]) == 0
    assert names(tmp_path / "mine") == []


def test_a_named_machine_stays_named(folder):
    assert main(["shim", "install", "ci", "--dir", str(folder)]) == 0
    assert " -m ci docker " in (folder / "docker").read_text()


def test_a_folder_that_cannot_be_written_is_named(folder, capsys):
    (folder / "file").touch()
    assert main(["shim", "install", "--dir", str(folder / "file")]) == 1
    assert f"{folder}/file/docker cannot be written" in capsys.readouterr().err


@pytest.fixture
def sockets():
    one, two = MachinePaths.of("default").docker_sock, MachinePaths.of("ci").docker_sock
    return one, two


def test_a_free_place_is_linked_and_turned_and_freed(tmp_path, sockets):
    link = tmp_path / "docker.sock"
    assert not remove_link(link)
    assert make_link(link, sockets[0])
    assert not make_link(link, sockets[0])
    assert make_link(link, sockets[1])
    assert link.readlink() == sockets[1]
    assert names(tmp_path) == ["docker.sock"]
    assert is_ours(link)
    assert remove_link(link)
    assert not link.is_symlink()


@pytest.mark.parametrize("what", ["socket", "dead socket", "file", "link"])
def test_what_lives_there_is_left_alone(tmp_path, sockets, what):
    link = tmp_path / "docker.sock"
    listener = socket.socket(socket.AF_UNIX)
    if what == "file":
        link.touch()
    elif what == "link":
        link.symlink_to(tmp_path / "elsewhere")
    else:
        listener.bind(str(link))
        listener.listen() if what == "socket" else listener.close()
    with pytest.raises(HostvmError) as caught:
        make_link(link, sockets[0])
    listener.close()
    assert {"socket": "own answers", "dead socket": "nothing answers", "file": "nothing answers"}.get(
        what, "elsewhere"
    ) in caught.value.details
    assert not remove_link(link)
    assert os.path.lexists(link)


def test_the_socket_is_linked_only_after_a_yes(folder, tmp_path, capsys):
    link = tmp_path / "docker.sock"
    words = ["shim", "install", "--dir", str(folder), "--socket", str(link)]
    assert main(words) == 2
    assert "--yes" in capsys.readouterr().err
    assert not link.is_symlink()
    assert main([*words, "--yes"]) == 0
    assert link.readlink() == MachinePaths.of("default").docker_sock
    assert main(["shim", "rm", "--dir", str(folder), "--socket", str(link)]) == 0
    assert not link.is_symlink()


def test_a_folder_that_is_not_ours_to_write_names_the_command(tmp_path, sockets):
    (tmp_path / "file").touch()
    with pytest.raises(HostvmError) as caught:
        make_link(tmp_path / "file" / "docker.sock", sockets[0])
    assert "sudo ln -sfn" in caught.value.resolution
