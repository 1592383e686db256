"""Checks of one shared folder from inside a container; prints a JSON object of check name to "" or what was wrong.

Run there as `python3 share_checks.py FOLDER USER PREFIX [NAME...]`. A check is a function `check_NAME`; the halves on
this computer are in test_shares.py.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import traceback
import unicodedata
from contextlib import closing, contextmanager
from pathlib import Path

ODD_NAMES = ["a b", "q'u\"o", "new\nline", "$HOME `x`", "-dash", "back\\slash", "trailing ", "*?[x]", "e" * 255]
ODD_NAMES += [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def check_create_append_truncate(work: Path) -> None:
    file = work / "file"
    file.write_bytes(b"one\n")
    with file.open("ab") as stream:
        stream.write(b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
    os.truncate(file, 4)
    assert (file.read_bytes(), file.stat().st_size) == (b"one\n", 4)
    os.truncate(file, 6)
    assert file.read_bytes() == b"one\n\0\0"
    try:
        os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    raise AssertionError("O_EXCL opened a file that exists")


def check_rename_over(work: Path) -> None:
    (work / "new").write_text("new")
    (work / "old").write_text("old")
    with (work / "old").open() as before:
        (work / "new").rename(work / "old")
        assert before.read() == "old", "an open file changed under its reader"
    assert (work / "old").read_text() == "new"
    assert not (work / "new").exists()
    (work / "folder").mkdir()
    (work / "folder" / "x").touch()
    (work / "folder").rename(work / "moved")
    assert names(work / "moved") == ["x"]


def check_unlinked_while_open(work: Path) -> None:
    with (work / "gone").open("w+") as stream:
        stream.write("still here")
        stream.flush()
        (work / "gone").unlink()
        assert not (work / "gone").exists()
        stream.seek(0)
        assert stream.read() == "still here"


def check_hard_link(work: Path) -> None:
    (work / "one").write_text("linked")
    try:
        os.link(work / "one", work / "two")
    except OSError as fault:
        if fault.errno != errno.EPERM:
            raise
        return
    (work / "two").write_text("both")
    assert (work / "one").read_text() == "both"


def check_symlink(work: Path) -> None:
    (work / "target").write_text("here")
    (work / "link").symlink_to("target")
    assert str((work / "link").readlink()) == "target"
    assert (work / "link").read_text() == "here"
    (work / "absolute").symlink_to("/etc/hostname")
    assert (work / "absolute").read_text() == Path("/etc/hostname").read_text(), "a link led to the host"


def check_modes(work: Path) -> None:
    script = work / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    assert not os.access(script, os.X_OK)
    script.chmod(0o755)
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert subprocess.run([script], capture_output=True, check=True).stdout == b"ran\n"
    script.chmod(0o600)
    assert stat.S_IMODE(script.stat().st_mode) == 0o600
    script.chmod(0o755)


def check_mtime(work: Path) -> None:
    file = work / "old-file"
    file.write_text("x")
    os.utime(file, (1_000_000_000, 1_234_567_890))
    assert file.stat().st_mtime == 1_234_567_890


def check_chown(work: Path) -> None:
    file = work / "owned"
    file.write_text("x")
    os.chown(file, 1000 if os.getuid() == 0 else os.getuid(), os.getgid())
    file.write_text("y")
    assert file.read_text() == "y"


def check_names(work: Path) -> None:
    folder = work / "names"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / name).write_text(name)
    assert names(folder) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert (folder / name).read_text() == name


def check_mmap(work: Path) -> None:
    file = work / "mapped"
    file.write_bytes(bytes(2 * mmap.PAGESIZE))
    with file.open("r+b") as stream, closing(mmap.mmap(stream.fileno(), 0)) as memory:
        memory[:5] = b"first"
        memory[mmap.PAGESIZE : mmap.PAGESIZE + 6] = b"second"
        memory.flush()
    data = file.read_bytes()
    assert data[:5] == b"first"
    assert data[mmap.PAGESIZE :][:6] == b"second"


def check_a_folder_read_twice(work: Path) -> None:
    for name in ("one", "two"):
        (work / name).touch()
    opened = os.open(work, os.O_RDONLY)
    try:
        assert [sorted(os.listdir(opened)) for _ in range(3)] == [["one", "two"]] * 3  # noqa: PTH208 - of a descriptor
    finally:
        os.close(opened)


def check_chown_of_the_user_alone(work: Path) -> None:
    file = work / "file"
    file.write_text("one")
    os.chown(file, 999, -1)
    with file.open("a") as stream:
        stream.write(" two")
    assert file.read_text() == "one two"
    file.unlink()


def check_locks(work: Path) -> None:
    file = work / "locked"
    file.touch()
    for lock in (fcntl.lockf, fcntl.flock):
        with file.open("r+") as holder:
            lock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            child = os.fork()
            if child == 0:
                with file.open("r+") as other:
                    try:
                        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        os._exit(7)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, f"{lock.__name__} let two in"


def check_sqlite(work: Path) -> None:
    with (
        closing(sqlite3.connect(work / "data.db", timeout=10)) as one,
        closing(sqlite3.connect(work / "data.db")) as two,
    ):
        assert one.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        one.execute("create table t (n)")
        with one:
            one.executemany("insert into t values (?)", [(n,) for n in range(500)])
        assert two.execute("select count(*) from t").fetchone() == (500,)
        with two:
            two.execute("delete from t where n < 100")
        assert one.execute("select count(*) from t").fetchone() == (400,)
        assert one.execute("pragma integrity_check").fetchone() == ("ok",)


def check_many_open(work: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    folder = work / "open"
    folder.mkdir()
    opened = [(folder / str(number)).open("w+") for number in range(1100)]
    for number, stream in enumerate(opened):
        stream.write(str(number))
    for number, stream in enumerate(opened):
        stream.seek(0)
        assert stream.read() == str(number)
        stream.close()
    assert len(names(folder)) == 1100


def check_big_file(work: Path) -> None:
    size = 4 * 1024**3 + 5
    with (work / "big").open("w+b") as stream:
        stream.seek(size - 3)
        stream.write(b"end")
        stream.flush()
        assert os.fstat(stream.fileno()).st_size == size
        stream.seek(size - 3)
        assert stream.read() == b"end"


def mount_of(file: Path) -> str:
    """The line of /proc/mounts of the folder that the container has."""
    table = Path("/proc/mounts").read_text().splitlines()
    return max((line for line in table if file.is_relative_to(line.split()[1])), key=lambda line: len(line.split()[1]))


@contextmanager
def looked_at(file: Path):
    """Inside the block another process asks for the file's attributes, again and again: there is a file, or none.

    By sshfs it may be told that the one it found is gone (docs/limitations.md).
    """
    allowed = {errno.ENOENT, errno.ESTALE} if " fuse.sshfs " in mount_of(file) else {errno.ENOENT}
    said, says = os.pipe()
    looker = os.fork()
    if looker == 0:
        try:
            while True:
                try:
                    file.stat()
                except OSError as error:
                    if error.errno not in allowed:
                        raise
        except BaseException:  # noqa: BLE001 - or it would go on with the checks that follow
            os.write(says, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(says)
    try:
        yield
    finally:
        os.kill(looker, signal.SIGKILL)
        os.waitpid(looker, 0)
        with os.fdopen(said) as stream:
            fault = stream.read()
    assert fault == "", fault


def check_written_while_looked_at(work: Path) -> None:
    file = work / "file"
    with looked_at(file):
        for number in range(80):
            text = f"{number} {number * number}\n" * (1 + number % 3)
            with file.open("x") as stream:
                stream.write(text[:2])
                stream.flush()
                stream.write(text[2:])
            assert file.read_text() == text, f"round {number}"
            file.unlink()


def check_appended_while_looked_at(work: Path) -> None:
    file = work / "log"
    lines = [f"line {number}\n" for number in range(100)]
    with looked_at(file), file.open("a") as stream:
        for line in lines:
            stream.write(line)
            stream.flush()
    assert file.read_text() == "".join(lines)


def check_mapped_while_looked_at(work: Path) -> None:
    file = work / "mapped"
    with looked_at(file):
        for number in range(40):
            with file.open("w+b") as stream:
                stream.truncate(8192)
                with mmap.mmap(stream.fileno(), 8192) as mapped:
                    mapped[:] = bytes([number]) * 8192
                    mapped.flush()
            assert file.read_bytes() == bytes([number]) * 8192, f"round {number}"


def check_git(work: Path) -> None:
    def git(*words: str) -> str:
        settings = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "safe.directory=*"]
        return subprocess.run(["git", *settings, *words], capture_output=True, check=True, text=True).stdout

    origin = work / "origin"
    git("init", "-q", str(origin))
    for number in range(20):
        (origin / f"f{number}").write_text(str(number))
    git("-C", str(origin), "add", ".")
    git("-C", str(origin), "commit", "-qm", "all")
    git("clone", "-q", str(origin), str(work / "clone"))
    said = git("-C", str(work / "clone"), "status", "--porcelain")
    assert said == "", said
    (work / "clone" / "f3").write_text("three")
    said = git("-C", str(work / "clone"), "status", "--porcelain")
    assert said.split() == ["M", "f3"], said


def check_statfs(work: Path) -> None:
    found = os.statvfs(work)
    assert found.f_blocks > 0
    assert found.f_bavail > 0


def check_fallocate_is_refused_or_works(work: Path) -> None:
    file = work / "reserved"
    with file.open("wb") as stream:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(stream.fileno(), 0, ctypes.c_long(0), ctypes.c_long(8192)) == 0:
            assert file.stat().st_size == 8192
        else:
            assert ctypes.get_errno() == errno.EOPNOTSUPP


def slow_many_entries(work: Path) -> None:
    folder = work / "many"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"entry-{number}").touch()
    assert len(names(folder)) == 10_000


def slow_tree(work: Path) -> None:
    for number in range(5_000):
        folder = work / "node_modules" / f"p{number % 250}" / "lib"
        if number < 250:
            folder.mkdir(parents=True)
        (folder / f"m{number}.js").write_text(f"module.exports = {number}\n")
    total = sum(int(file.read_text().split()[-1]) for file in (work / "node_modules").rglob("*.js"))
    assert total == sum(range(5_000))
    subprocess.run(["rm", "-r", work / "node_modules"], check=True)


def main(folder: str, user: int, prefix: str, *chosen: str) -> None:
    os.umask(0o022)
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    results = {}
    for name, check in list(globals().items()):
        if not name.startswith(prefix) or (chosen and name.removeprefix(prefix) not in chosen):
            continue
        work = Path(folder) / f"{name.removeprefix(prefix)}-{user}"
        try:
            work.mkdir()
            check(work)
            results[name.removeprefix(prefix)] = ""
        except Exception:  # noqa: BLE001 - told by name
            results[name.removeprefix(prefix)] = traceback.format_exc(limit=3)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
