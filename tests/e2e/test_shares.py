"""Shared folders, every kind by the same checks: from inside a container, and from this computer."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path

import pytest
from machines import Machine, eventually, hostvm, kill_agent, told_with_logs
from sharing import CHECKS, SERVED, TOOLS, Share, end, in_full  # helpers beside this file

NAMES = [
    line.split("(")[0].removeprefix("def check_") for line in CHECKS.read_text().splitlines() if "def check_" in line
]

# What Linux's 9p client does wrongly, whoever serves it: docs/limitations.md.
NOT_BY_9P = {"appended_while_looked_at", "mapped_while_looked_at"}

# What another user than root is asked to do as well; the rest does not depend on who asks. Root does everything.
OF_USERS = ("create_append_truncate", "rename_over", "symlink", "modes", "mtime", "chown", "sqlite")
ASKED: dict[int, tuple[str, ...]] = {0: (), 1000: OF_USERS}

SLEEPS = "import time; time.sleep(3600)"

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def machine(_sharing_made):
    """Of the tests of shares alone: they take as long as all others of the machine that most share."""
    return _sharing_made


@pytest.fixture(scope="module")
def results(share: Share):
    """All checks, run once as root and once as another user, in one container: user -> check -> what was wrong."""
    script = ("exec", share.container, "python3", "/w/checks/share_checks.py", "/w")
    left_out = NOT_BY_9P if share.kind == "9p" else set()
    said = {
        user: share.machine.docker(
            *script, str(user), "check_", *(name for name in names or NAMES if name not in left_out)
        )
        for user, names in ASKED.items()
    }
    return share, {user: json.loads(answer) for user, answer in said.items()}


def test_the_kind_is_what_the_guest_mounted(share: Share):
    types = {"9p": "9p", "virtiofs": "virtiofs", "sftp": "fuse.sshfs", "nfs": "nfs"}
    assert share.machine.shell("stat", "-f", "-c", "%n", str(share.folder)) == str(share.folder)
    rows = [line.split() for line in share.machine.shell("cat", "/proc/mounts").splitlines()]
    # One that comes after the engine could be there has a cover below it, which nobody can write to.
    covers = ["tmpfs"] if share.kind in SERVED else []
    found = [row for row in rows if row[1] == str(share.folder)]
    assert [row[2] for row in found] == [*covers, types[share.kind]]
    assert {"nosuid", "nodev"} <= set(found[-1][3].split(","))


@in_full
@pytest.mark.parametrize(("user", "name"), [(user, name) for user, names in ASKED.items() for name in names or NAMES])
def test_from_inside_a_container(results, user, name):
    share, said = results
    if share.kind == "9p" and name in NOT_BY_9P:
        assert name not in said[user]
    else:
        assert said[user][name] == ""


@in_full
@pytest.mark.parametrize("user", [0, 1000])
def test_what_a_container_made_belongs_to_the_user(results, user):
    share, _ = results
    script = share.folder / f"modes-{user}" / "script"
    assert subprocess.run([script], capture_output=True, check=True).stdout == b"ran\n"
    assert str((share.folder / f"symlink-{user}" / "link").readlink()) == "target"
    if share.kind in SERVED or os.geteuid() != 0:
        made = {path.stat().st_uid for path in (share.folder / f"create_append_truncate-{user}").iterdir()}
        assert made == {os.geteuid()}


class Looker:
    """A program in a share's container that looks at a name there the moment it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, name: str) -> dict[str, object]:
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        seen: dict[str, object] = json.loads(self._process.stdout.readline())
        return seen


@pytest.fixture
def look(share: Share):
    (share.folder / "seen").mkdir()
    # By sftp what was learnt of a file serves for 0.1 s (docs/limitations.md); by the others not at all.
    with share.script("look_again.py", "/w/seen", "0.15" if share.kind == "sftp" else "0", "held") as process:
        yield Looker(process)
        end(process)


def test_what_happens_here_is_seen_at_once(share: Share, look):
    """Rewritten in place, replaced, renamed, removed, made again; each looked at with nothing in between, in rounds."""
    folder = share.folder / "seen"
    for number in range(5):
        # Longer and shorter in turn: a size that is remembered cuts the text or fills it up.
        for text in ("before " * (1 + number % 3), "after it " * (1 + number % 3)):
            expected = {"listed": True, "size": len(text), "text": text}
            rewrite(folder / "written", text)
            assert look("written") == expected
            rewrite(folder / "held", text)
            assert look("held") == expected | {"held": text}
        first, second, spare = folder / f"first-{number}", folder / f"second-{number}", folder / "spare"
        first.write_text("one")
        assert look(first.name)["text"] == "one"
        spare.write_text("another")
        spare.rename(first)
        assert look(first.name) == {"listed": True, "size": len("another"), "text": "another"}
        first.rename(second)
        assert look(second.name)["text"] == "another"
        assert look_for_removed(share, look, first.name) == {"listed": False, "gone": True}
        second.unlink()
        assert look_for_removed(share, look, second.name) == {"listed": False, "gone": True}


def look_for_removed(share: Share, look, name: str) -> dict[str, object]:
    """By sftp the attributes of an empty file are shown in the moment in which a deletion is acted out (ADR 0051)."""
    seen = look(name)
    for _ in range(3):
        if share.kind != "sftp" or seen != {"listed": False, "size": 0, "gone": True}:
            break
        seen = look(name)
    return seen


def rewrite(file: Path, text: str) -> None:
    """In place, as editors do that keep links."""
    with file.open("r+" if file.exists() else "w") as stream:
        stream.write(text)
        stream.truncate()


@in_full
@pytest.mark.parametrize("place", ["held", ".git"])
def test_a_file_that_is_held_open_is_seen_to_change(share: Share, place):
    """By its descriptor alone, some second later at most; below `.git` no event tells of it (docs/limitations.md)."""
    file = share.folder / place / "open"
    file.parent.mkdir(exist_ok=True)
    file.write_text("before")
    # By sftp, whose times are whole seconds, two texts of one size in a second are taken for one.
    texts = ["after it was opened", "short", "longer again", *([] if share.kind == "sftp" else ["longer still", "lo"])]
    with share.script("held_open.py", f"/w/{place}/open", "20") as holder:
        assert holder.stdout.readline() == "READY\n"
        for text in texts:
            rewrite(file, text)
            holder.stdin.write(f"{json.dumps(text)}\n")
            holder.stdin.flush()
            assert json.loads(holder.stdout.readline()) == text
        end(holder)


def test_what_a_container_writes_is_seen_at_once(share: Share):
    file = share.folder / "rewritten"
    file.write_text("from this computer")
    share.run("printf 'from the guest' > /w/rewritten")
    assert file.read_text() == "from the guest"
    share.run("rm /w/rewritten")
    assert not file.exists()


@in_full
def test_what_is_removed_here_is_made_again_there(share: Share):
    for number in range(3):
        (share.folder / "again").write_text(f"here {number}")
        assert share.run("cat /w/again") == f"here {number}"
        (share.folder / "again").unlink()
        share.run(f"printf 'there {number}' > /w/again")
        assert (share.folder / "again").read_text() == f"there {number}"


@pytest.mark.slow
def test_containers_write_one_database_at_once(share: Share):
    """Two programs in each of two containers, with a write-ahead log; no row is lost, nor made without the others'."""
    count, second = 200, f"second-{share.kind}"
    file = share.folder / "databases" / "data.db"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as database:  # two that ask for the log at once: one is refused, on any disk
        assert database.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        database.execute("create table t (name, number)")
    for path in (file.parent, file):
        path.chmod(0o777)
    share.machine.docker("run", "-d", "--name", second, "-v", f"{share.folder}:/w", TOOLS, "-c", SLEEPS)
    others = Share(share.machine, share.kind, share.folder, second)
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(place.script("database_writer.py", "/w/databases/data.db", name, str(count)))
                for place, name in ((share, "a"), (share, "b"), (others, "c"), (others, "d"))
            ]
            assert [writer.stdout.readline() for writer in writers] == ["READY\n"] * 4
            for writer in writers:
                writer.stdin.write("\n")
                writer.stdin.flush()
            assert [writer.stdout.readline() for writer in writers] == ["DONE\n"] * 4
            for writer in writers:
                end(writer)
    finally:
        share.machine.docker("rm", "-f", second)
    assert [path.name for path in file.parent.iterdir()] == ["data.db"], "the last one closed it"
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        rows = database.execute("select name, number from t order by rowid").fetchall()
    assert [number for _, number in rows] == list(range(1, 4 * count + 1))
    names = [name for name, _ in rows]
    assert Counter(names) == dict.fromkeys("abcd", count)
    assert sum(one != other for one, other in pairwise(names)) > 20, "they waited for each other"


@in_full
def test_links_do_not_lead_out(share: Share, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not for the guest")
    (share.folder / "out").symlink_to(secret)
    (share.folder / "up").symlink_to("../../../../../../../../etc/hostname")
    assert "not for the guest" not in share.run("cat /w/out 2>&1 || true")
    assert share.run("cat /w/up; cat /etc/hostname").split() == [share.run("cat /etc/hostname").strip()] * 2


@in_full
def test_a_read_only_mount_is_read_only(share: Share):
    (share.folder / "kept").write_text("kept")
    said = share.machine.try_docker(
        "run", "--rm", "--entrypoint", "sh", "-v", f"{share.folder}:/r:ro", "-v", f"{share.folder}/kept:/one", TOOLS,
        "-c", "cat /r/kept /one; echo x > /r/kept; echo y > /one; rm /r/kept; touch /r/new",
    )  # fmt: skip
    assert said.out == "keptkept", str(said)
    assert said.err.lower().count("read-only file system") == 3, str(said)
    assert (share.folder / "kept").read_text() == "y\n"  # /one is the same file, mounted to be written


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Of all in a folder, and of itself: mode, owner, time, and what a file holds."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        facts = path.lstat()
        text = path.read_text() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (facts.st_mode, facts.st_uid, facts.st_mtime_ns, text)
    return found


@in_full
def test_nothing_is_changed_in_a_read_only_share(share: Share, read_only_folders):
    """By a container's root; nor by the guest's own root, who may mount it anew to be written."""
    folder = read_only_folders[share.kind]
    before = state_of(folder)
    mounts = ("-v", f"{folder}:/r", "-v", f"{share.folder}/checks:/checks:ro")
    words = ("run", "--rm", *mounts, TOOLS, "/checks/read_only.py", "/r")
    said = json.loads(share.machine.docker(*words))
    assert {way: error for way, error in said.items() if error != "EROFS"} == {}
    assert state_of(folder) == before
    remount = ("shell", "--", "mount", "-o")
    anew = hostvm("-m", share.machine.name, *remount, "remount,rw", str(folder))
    try:
        assert mounted(share, folder) == ("rw" if anew.status == 0 else "ro"), str(anew)
        said = json.loads(share.machine.docker(*words))
        assert {way: error for way, error in said.items() if error not in ("EROFS", "EACCES", "EPERM")} == {}, anew
        assert state_of(folder) == before
    finally:
        hostvm("-m", share.machine.name, *remount, "remount,ro", str(folder))


def mounted(share: Share, folder: Path) -> str:
    """The mount's own words of what may be done by it."""
    rows = [line.split() for line in share.machine.shell("cat", "/proc/mounts").splitlines()]
    return [row[3] for row in rows if row[1] == str(folder)][-1].split(",")[0]


@pytest.mark.slow
def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(share: Share, tmp_path):
    """Again and again, while a container reads, lists and writes in it. No events: they would take minutes."""
    place = share.folder / ".git" / "swaps"
    folder, parked, link = (place / name for name in ("folder", "parked", "link"))
    folder.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "secret").write_text("inside")
    (outside / "secret").write_text("not for the guest")
    (outside / "name").touch()
    link.symlink_to(outside)
    for path in (folder, outside):
        path.chmod(0o777)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            stop.wait(random.uniform(0, 0.02))
            folder.rename(parked)
            link.rename(folder)
            stop.wait(random.uniform(0, 0.02))
            folder.rename(link)
            parked.rename(folder)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        words = ("python3", "/w/checks/swapped_folder.py", "/w/.git/swaps/folder", "20")
        got = json.loads(share.machine.docker("exec", share.container, *words))
    finally:
        stop.set()
        swapper.join()
    assert sorted(entry.name for entry in outside.iterdir()) == ["name", "secret"]
    said = {what for what in got if not what.isupper()}  # nor the name of an error
    lists = {"['secret']", "['made', 'secret']", "['made']", "[]"}
    assert said <= {"inside", str(len("by the container")), *lists}, got
    assert "inside" in said, f"it was never looked at while it was a folder: {got}"
    assert said != set(got), f"it was never looked at while it was a link: {got}"


@pytest.mark.slow
def test_many_files(share: Share):
    said = share.machine.docker("exec", share.container, "python3", "/w/checks/share_checks.py", "/w", "0", "slow_")
    assert json.loads(said) == {"many_entries": "", "tree": ""}


# ---- what holds whatever the kind


def test_the_working_folder_is_the_same(machine: Machine, shared_folders):
    folder = shared_folders["9p"] / "a b"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hostvm")), "-m", machine.name, "shell", "--", "pwd"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{folder}\n"


def test_an_unshared_folder_is_refused_before_anything_is_made(machine: Machine, tmp_path):
    done = machine.try_docker("run", "--name", "never", "-v", f"{tmp_path}:/x", "busybox:latest", "true")
    assert done.status == 125
    assert f"{tmp_path} is not shared" in done.err
    assert f"hostvm mount add {tmp_path}" in done.err
    assert "never" not in machine.docker("ps", "-a", "--format", "{{.Names}}").split()


@pytest.mark.parametrize("kind", SERVED)
def test_added_to_a_running_machine_and_taken_away(machine: Machine, tmp_path, kind):
    (tmp_path / "here").write_text("hello")
    words = () if kind == "nfs" else ("--kind", kind)
    facts = json.loads(machine.hostvm("mount", "add", "--json", *words, f"{tmp_path}:/added here:ro"))
    row = next(row for row in facts if row["target"] == "/added here")
    assert (row["kind"], row["state"], row["readonly"]) == (kind, "mounted", True)
    assert machine.shell("cat", "/added here/here") == "hello"
    assert "ead-only" in hostvm("-m", machine.name, "shell", "--", "touch", "/added here/x").err
    machine.hostvm("mount", "rm", str(tmp_path))
    assert machine.shell("ls", "/added here") == ""
    assert "/added here" not in machine.hostvm("mount", "ls")


def test_a_very_long_target(machine: Machine, tmp_path):
    target = "/" + "/".join([letter * 250 for letter in "abcd"])
    (tmp_path / "here").write_text("hello")
    machine.hostvm("mount", "add", f"{tmp_path}:{target}")
    assert machine.shell("cat", f"{target}/here") == "hello"
    how = ("-v", f"{tmp_path}:{target}:Z", "busybox:latest", "cat", f"{target}/here")
    assert machine.docker("run", "--rm", *how) == "hello", "a label of SELinux's means nothing here"
    machine.hostvm("mount", "rm", str(tmp_path))
    assert machine.shell("ls", target) == ""


def test_where_nothing_is_to_be_shared_nothing_is(spare: Machine):
    """It was made with `--mount none`."""
    assert json.loads(spare.hostvm("mount", "ls", "--json")) == []
    kinds = {line.split()[2] for line in spare.shell("cat", "/proc/mounts").splitlines()}
    assert {"proc", "tmpfs"} <= kinds, kinds
    assert not {kind for kind in kinds if kind in ("9p", "virtiofs", "nfs", "nfs4") or kind.startswith("fuse.")}, kinds


def test_another_kind_for_a_folder_inside_of_a_shared_one(machine: Machine, shared_folders):
    inner = shared_folders["nfs"] / "inner"
    inner.mkdir()
    (inner / "file").write_text("hello")
    assert "in the guest already" in hostvm("-m", machine.name, "mount", "add", str(inner)).err
    rows = json.loads(machine.hostvm("mount", "add", "--kind", "sftp", "--json", str(inner)))
    assert [row["kind"] for row in rows if row["target"] == str(inner)] == ["sftp"]
    assert f" {inner} fuse.sshfs " in machine.shell("cat", "/proc/mounts")
    assert machine.shell("cat", f"{inner}/file") == "hello"
    machine.hostvm("mount", "rm", str(inner))
    assert machine.shell("cat", f"{inner}/file") == "hello"


def test_a_share_outlives_its_agent(machine: Machine, shared_folders):
    """The agent is killed while a container has its folders; nobody restarts anything. By nfs not even a file."""
    folder, lines = shared_folders["sftp"], shared_folders["nfs"] / "lines"
    writes = "exec 3>> /n/lines; while sleep 0.1; do echo line >&3 || echo lost >> /n/lost; done"
    words = ("-v", f"{folder}:/w", "-v", f"{lines.parent}:/n", "busybox:latest", "sh", "-c", writes)
    machine.docker("run", "-d", "--name", "outlives", *words)
    (folder / "before").write_text("before")
    eventually(lambda: lines.exists() and lines.stat().st_size, "it writes")
    try:
        with told_with_logs(machine, "outlives"):
            kill_agent(machine)
            assert machine.docker("exec", "outlives", "cat", "/w/before") == "before"
            machine.docker("exec", "outlives", "sh", "-c", "echo after > /w/after")
            assert (folder / "after").read_text() == "after\n"
            size = lines.stat().st_size
            eventually(lambda: lines.stat().st_size > size + 10, "it writes on")
            assert not lines.with_name("lost").exists()
            assert set(lines.read_text().splitlines()) == {"line"}
    finally:
        machine.docker("rm", "-f", "outlives")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("/no/such/folder",), 2, "there is no such folder"),
        (("{file}",), 2, "it is not a folder"),
        (("{folder}:/proc/x",), 2, "would cover /proc/x"),
        (("{folder}:/var/lib/docker",), 2, "would cover /var/lib/docker"),
        (("{folder}:relative",), 2, "not absolute"),
        (("{loop}",), 2, "Too many levels of symbolic links"),
        (("{folder}:{taken}",), 2, "already"),
    ],
)
def test_what_cannot_be_shared_is_told(machine: Machine, shared_folders, tmp_path, words, status, told):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    places = {"file": tmp_path / "file", "folder": tmp_path, "loop": tmp_path / "loop", "taken": shared_folders["9p"]}
    before = machine.hostvm("mount", "ls", "--json")
    done = hostvm("-m", machine.name, "mount", "add", *(word.format(**places) for word in words))
    assert (done.status, told in done.err) == (status, True), str(done)
    assert machine.hostvm("mount", "ls", "--json") == before
