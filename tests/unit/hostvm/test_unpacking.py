"""Archives of others: what lands, as whose, and what must not."""

from __future__ import annotations

import io
import os
import sys
import tarfile

import pytest

from hostvm.unpacking import OccupiedError, OutsideError, unpack_member

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")


def unpack(folder, *members: tuple[str, bytes, str]) -> None:
    """Members as (name, type, link); files hold their own name."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.uid, member.uname = kind, link, 4711, "nobody"
            content = name.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            unpack_member(tar, member, str(folder), mode=0o640)


def file(name: str) -> tuple[str, bytes, str]:
    return name, tarfile.REGTYPE, ""


def link(name: str, target: str) -> tuple[str, bytes, str]:
    return name, tarfile.SYMTYPE, target


def same(name: str, target: str) -> tuple[str, bytes, str]:
    return name, tarfile.LNKTYPE, target


def test_files_are_the_users_with_the_mode_that_was_said(tmp_path):
    unpack(tmp_path, ("d", tarfile.DIRTYPE, ""), file("d/f"), same("d/g", "d/f"), link("d/l", "/etc/passwd"))
    found = (tmp_path / "d" / "f").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o640, os.geteuid())
    assert (tmp_path / "d").stat().st_mode & 0o700 == 0o700
    assert (tmp_path / "d" / "g").samefile(tmp_path / "d" / "f")
    assert str((tmp_path / "d" / "l").readlink()) == "/etc/passwd"


@pytest.mark.parametrize(
    "members",
    [
        [file("../secret")],
        [file("a/../../secret")],
        [("..", tarfile.DIRTYPE, "")],
        [link("out", ".."), file("out/secret")],
        [link("out", ".."), same("s", "out/secret")],
        [same("s", "../secret"), file("s")],
        [file("/etc/hostname-of-another")],
    ],
)
def test_nothing_lands_outside(tmp_path, members):
    target, secret = tmp_path / "target", tmp_path / "secret"
    target.mkdir(mode=0o755)
    secret.write_text("kept")
    with pytest.raises(OutsideError):
        unpack(target, *members)
    assert (secret.read_text(), secret.stat().st_nlink) == ("kept", 1)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_text("kept")
    target.mkdir()
    unpack(target, link("s", "../secret"), file("s"))
    assert (secret.read_text(), (target / "s").read_text()) == ("kept", "s")
    unpack(target, link("l", "../secret"), same("m", "l"), file("m"))
    assert (secret.read_text(), str((target / "l").readlink())) == ("kept", "../secret")


def test_a_folder_and_a_file_do_not_take_each_others_place(tmp_path):
    unpack(tmp_path, ("d", tarfile.DIRTYPE, ""), file("d/f"), file("f"))
    with pytest.raises(OccupiedError, match="cannot overwrite directory"):
        unpack(tmp_path, file("d"))
    with pytest.raises(OccupiedError, match="cannot overwrite non-directory"):
        unpack(tmp_path, ("f", tarfile.DIRTYPE, ""))
    unpack(tmp_path, ("d", tarfile.DIRTYPE, ""), file("d/f"), file("f"))
