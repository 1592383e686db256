"""`docker cp`: where things land, what they are called there, and that nothing lands elsewhere."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import posixpath
import sys
import tarfile

import pytest

from runtime.docker import copy
from runtime.docker.api import EngineApiError
from runtime.docker.copy_names import CopyError, End, keep_ending, landing, renamed, renamed_by_link, split_entry

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


@pytest.mark.parametrize(
    ("path", "parts"),
    [("/a/b", ("/a", "b")), ("/a/b/", ("/a", "b")), ("/a/b/.", ("/a/b", ".")), ("/", ("/", "/")), ("b", (".", "b"))],
)
def test_a_path_in_two(path, parts):
    assert split_entry(path, posixpath) == parts


def end(path: str, **facts: object) -> End:
    return End(path, posixpath, **facts)


FILE, FOLDER = {"exists": True}, {"exists": True, "folder": True}


@pytest.mark.parametrize(
    ("source", "target", "lands"),
    [
        (end("/s/f", **FILE), end("/d", **FOLDER), ("/d", "f")),
        (end("/s/f", **FILE), end("/d/old", **FILE), ("/d", "old")),
        (end("/s/f", **FILE), end("/d/new"), ("/d", "new")),
        (end("/s/dir", **FOLDER), end("/d", **FOLDER), ("/d", "dir")),
        (end("/s/dir/.", **FOLDER), end("/d", **FOLDER), ("/d", ".")),
        (end("/s/dir/.", **FOLDER), end("/d/new"), ("/d", "new")),
        (end("/s/dir", **FOLDER), end("/d/new/"), ("/d", "new")),
        (end("/s/real", **FILE, rebase="link"), end("/d", **FOLDER), ("/d", "link")),
        (end("/s/real", **FILE, rebase="link"), end("/d/new"), ("/d", "new")),
    ],
)
def test_where_a_copy_lands(source, target, lands):
    assert landing(source, target) == lands


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        (end("/s/dir", **FOLDER), end("/d/old", **FILE), "cannot copy directory"),
        (end("/s/f", **FILE), end("/d/new/"), "no such directory"),
    ],
)
def test_what_cannot_land(source, target, told):
    with pytest.raises(CopyError, match=told):
        landing(source, target)


@pytest.mark.parametrize(
    ("member", "was", "becomes", "name"),
    [
        ("dir", "dir", "new", "new"),
        ("dir/dir", "dir", "new", "new/dir"),
        (".", ".", "new", "new"),
        ("./a", ".", "new", "new/a"),
        ("./a", ".", ".", "./a"),
        ("dir2/a", "dir", "new", "dir2/a"),
        ("/etc/x", "/", "new", "new/etc/x"),
        ("//etc/x", "y", "z", "etc/x"),
    ],
)
def test_members_get_the_new_name(member, was, becomes, name):
    assert renamed(member, was, becomes) == name


def test_a_link_that_was_followed_keeps_its_name():
    assert renamed_by_link("/a/link", "/b/real", posixpath) == ("/b/real", "link")
    assert renamed_by_link("/a/link/.", "/b/real", posixpath) == ("/b/real/.", "")
    assert keep_ending("/a", "x/", posixpath) == "/a/"


class Body(io.BytesIO):
    """A response."""

    length = None

    def __init__(self, data: bytes, facts: dict[str, object]) -> None:
        super().__init__(data)
        self.headers = {"X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(facts).encode()).decode()}


class Engine:
    """Gives one archive."""

    def __init__(self, *members: tuple[tarfile.TarInfo, bytes], mode: int = 1 << 31) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for member, content in members:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        self.archive = Body(archive.getvalue(), {"mode": mode, "linkTarget": ""})

    @contextlib.contextmanager
    def open(self, method: str, path: str, *, query: dict[str, str]):
        assert (method, path) == ("GET", "/containers/c/archive")
        yield self.archive


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.mtime, made.uid = kind, link, mode, 1_000_000_000, 4711
    return made


def copy_out(engine: Engine, path: str, target: str) -> int:
    return copy.copy_out(engine, "c", path, target, io.BytesIO(), follow=False)


@posix_only
def test_modes_and_times_are_kept_and_the_owner_is_the_user(tmp_path):
    engine = Engine(
        (member("d", tarfile.DIRTYPE, mode=0o555), b""),
        (member("d/run", mode=0o777), b"#!"),
        (member("d/far", tarfile.SYMTYPE, link="/etc/passwd"), b""),
        (member("d/same", tarfile.LNKTYPE, link="d/run", mode=0o777), b""),
    )
    copy_out(engine, "/x/d", str(tmp_path / "new"))
    new = tmp_path / "new"
    assert (new.stat().st_mode & 0o777, new.stat().st_mtime) == (0o555, 1_000_000_000)
    new.chmod(0o755)
    assert ((new / "run").stat().st_mode & 0o777, (new / "run").stat().st_uid) == (0o777, new.parent.stat().st_uid)
    assert str((new / "far").readlink()) == "/etc/passwd"
    assert (new / "same").samefile(new / "run")


OUT = member("d/out", tarfile.SYMTYPE, link="../..")


@posix_only
@pytest.mark.parametrize(
    "members",
    [
        [(member("d/../../secret"), b"x")],
        [(member("..", tarfile.DIRTYPE, mode=0o700), b"")],
        [(OUT, b""), (member("d/out/secret"), b"x")],
        [(member("d/same", tarfile.LNKTYPE, link="../secret"), b""), (member("d/same"), b"x")],
        [
            (member("d/out", tarfile.SYMTYPE, link="../.."), b""),
            (member("d/s", tarfile.LNKTYPE, link="d/out/secret"), b""),
        ],
    ],
)
def test_nothing_is_written_outside(tmp_path, members):
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_text("kept")
    target.mkdir()
    with pytest.raises(CopyError):
        copy_out(Engine((member("d", tarfile.DIRTYPE, mode=0o755), b""), *members), "/d", str(target))
    assert (secret.read_text(), secret.stat().st_nlink) == ("kept", 1)


@posix_only
def test_an_absolute_name_is_one_below_the_target(tmp_path):
    copy_out(Engine((member("/d", tarfile.DIRTYPE, mode=0o755), b""), (member("/d/f"), b"x")), "/d", str(tmp_path))
    assert (tmp_path / "d" / "f").read_bytes() == b"x"


@posix_only
def test_what_is_sent_is_a_whole_archive(tmp_path):
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "f").write_bytes(b"content" * 100_000)
    (folder / "link").symlink_to("/nowhere")
    data = b"".join(copy._batched(copy._tar_chunks(str(folder), "new")))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["new", "new/link", "new/sub", "new/sub/f"]
        assert tar.extractfile("new/sub/f").read() == b"content" * 100_000
        assert tar.getmember("new/link").linkname == "/nowhere"
        assert {one.uname for one in tar} == {""}


@pytest.mark.parametrize("left", [100, 700, 1100])
def test_an_archive_that_is_not_whole_is_told(tmp_path, left):
    """As the engine sends of a file that becomes shorter meanwhile: a log that is rotated."""
    engine = Engine((member("dir/a"), b"a"), (member("dir/b"), bytes(2000)))
    whole = engine.archive.getvalue()
    engine.archive = Body(whole[:left], {"mode": 1 << 31, "linkTarget": ""})
    with pytest.raises(CopyError, match="the archive of c:/dir is damaged"):
        copy_out(engine, "/dir", str(tmp_path))


def test_an_archive_that_is_cut_off_behind_its_members_is_told(tmp_path):
    engine = Engine((member("dir/a"), b"a"))
    engine.archive.length = 512
    with pytest.raises(EngineApiError, match="was cut off"):
        copy_out(engine, "/dir", str(tmp_path))
