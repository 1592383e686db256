"""Shared folders, every kind by the same checks: from inside a container, and from this computer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from machines import HOSTVM, Machine, eventually, hostvm, running_machine

CHECKS = Path(__file__).with_name("share_checks.py")
KINDS = ("sftp", "9p", "virtiofs")  # in the order of `in_full`, or pytest would make each folder twice
SCRIPTS = (CHECKS.name, "inotify_watch.py", "look_again.py")
TOOLS = "share-tools:latest"
NAMES = [
    line.split("(")[0].removeprefix("def check_") for line in CHECKS.read_text().splitlines() if "def check_" in line
]

# What Linux's 9p client does wrongly, whoever serves it: docs/limitations.md.
NOT_BY_9P = {"appended_while_looked_at", "mapped_while_looked_at"}

# What another user than root is asked to do as well; the rest does not depend on who asks. Root does everything.
OF_USERS = ("create_append_truncate", "rename_over", "symlink", "modes", "mtime", "chown", "sqlite")
ASKED: dict[int, tuple[str, ...]] = {0: (), 1000: OF_USERS}

pytestmark = pytest.mark.vm

# In full for what is shared without a word about it; of the others only that they are there and show changes at once.
in_full = pytest.mark.parametrize(
    "share", ["sftp", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("9p", "virtiofs"))], indirect=True
)


@pytest.fixture(scope="module")
def machine(shared_folders, names_port):
    """Of these tests alone: they take as long as all others of the machine that most share."""
    options = ("--cpus", "2", "--memory", "2GiB", "--mount", "none", "--names", names_port)
    with running_machine(f"e2e-{os.getpid()}-f", *options, shares=shared_folders) as made:
        made.hostvm("image", "base", "busybox:latest")
        yield made


@pytest.fixture(scope="module")
def tools(machine: Machine) -> str:
    """An image with python3, git and a shell; without dpkg, whose configuring takes minutes under emulation."""
    packages = [word for name in ("coreutils", "dash", "git") for word in ("--package", name)]
    machine.hostvm("image", "base", "distroless-python:trixie", *packages, "--tag", TOOLS)
    return TOOLS


@pytest.fixture(scope="module", params=KINDS)
def share(request, machine: Machine, shared_folders, tools):
    """One kind's folder here, and a container that has it at /w."""
    kind = request.param
    folder = shared_folders[kind]
    name = f"share-{kind}"
    (folder / "checks").mkdir()
    for script in SCRIPTS:
        shutil.copy(CHECKS.with_name(script), folder / "checks")
    machine.docker("run", "-d", "--name", name, "--entrypoint", "sleep", "-v", f"{folder}:/w", tools, "3600")
    yield Share(machine, kind, folder, name)
    machine.docker("rm", "-f", name)


class Share:
    def __init__(self, machine: Machine, kind: str, folder: Path, container: str) -> None:
        self.machine, self.kind, self.folder, self.container = machine, kind, folder, container

    def run(self, script: str) -> str:
        return self.machine.docker("exec", self.container, "sh", "-c", script)


@pytest.fixture(scope="module")
def results(share: Share):
    """All checks, run once as root and once as another user, in one container: user -> check -> what was wrong."""
    # As on Linux, 9p and virtiofs show who owns a folder here; by sftp everybody in the guest has the user's rights.
    share.folder.chmod(0o755 if share.kind == "sftp" else 0o777)
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
    types = {"9p": "9p", "virtiofs": "virtiofs", "sftp": "fuse.sshfs"}
    assert share.machine.shell("stat", "-f", "-c", "%n", str(share.folder)) == str(share.folder)
    rows = [line.split() for line in share.machine.shell("cat", "/proc/mounts").splitlines()]
    # One that comes after the engine could be there has a cover below it, which nobody can write to.
    covers = ["tmpfs"] if share.kind == "sftp" else []
    assert [row[2] for row in rows if row[1] == str(share.folder)] == [*covers, types[share.kind]]


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
    if share.kind == "sftp" or os.geteuid() != 0:
        made = {path.stat().st_uid for path in (share.folder / f"create_append_truncate-{user}").iterdir()}
        assert made == {os.geteuid()}


class Looker:
    """A program in a share's container that looks at a name there the moment it is asked to."""

    def __init__(self, share: Share) -> None:
        # By sftp what was learnt of a file serves for 0.1 s (docs/limitations.md); by the others not at all.
        pause = "0.15" if share.kind == "sftp" else "0"
        words = ["-m", share.machine.name, "docker", "exec", "-i", share.container]
        self._process = subprocess.Popen(
            [HOSTVM, *words, "python3", "/w/checks/look_again.py", "/w/seen", pause, "held"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HOSTVM_CLIENT": "guest"},
        )  # fmt: skip

    def __call__(self, name: str) -> dict[str, object]:
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        seen: dict[str, object] = json.loads(self._process.stdout.readline())
        return seen

    def end(self) -> None:
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        self._process.stdout.close()


@pytest.fixture
def look(share: Share):
    (share.folder / "seen").mkdir()
    looker = Looker(share)
    yield looker
    looker.end()


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


@in_full
def test_changes_here_raise_events_there(share: Share, tools):
    """By sftp each by its name; elsewhere a deletion is told as a change of its folder (docs/adr/0051)."""
    folder = share.folder / "watched"
    folder.mkdir()
    (folder / "old").write_text("old")
    name = f"watcher-{share.kind}"
    share.machine.docker(
        "run", "-d", "--name", name, "-v", f"{folder}:/w", "-v", f"{share.folder}/checks:/checks:ro",
        tools, "/checks/inotify_watch.py", "/w",
    )  # fmt: skip

    def told() -> list[str]:
        return share.machine.sdk.api.logs(name).decode().splitlines()

    try:
        eventually(lambda: "READY" in told(), "the watcher is ready")
        agent_log = Path(os.environ["HOSTVM_HOME"], "machines", share.machine.name, "agent.log")
        eventually(lambda: f"events: watching {folder}\n" in agent_log.read_text(), "the folder is watched")
        before = (folder / "old").stat().st_mtime_ns
        sftp = share.kind == "sftp"
        for act, events in (
            (lambda: (folder / "made").write_text("new"), ["CLOSE_WRITE made"] if sftp else ["ATTRIB made"]),
            (lambda: (folder / "made").write_text("newer"), ["MODIFY made"] if sftp else ["CLOSE_WRITE made"]),
            (
                lambda: (folder / "made").rename(folder / "moved"),
                ["DELETE made", "CLOSE_WRITE moved"] if sftp else ["ATTRIB moved"],
            ),
            ((folder / "moved").unlink, ["DELETE moved"] if sftp else ["ATTRIB "]),
            ((folder / "sub").mkdir, ["MODIFY sub"] if sftp else ["ATTRIB sub"]),
        ):
            past = len(told())
            act()
            eventually(lambda past=past, events=events: set(events) <= set(told()[past:]), f"{events} after {told()}")
        assert sorted(entry.name for entry in folder.iterdir()) == ["old", "sub"], "acting it out changed something"
        assert (folder / "old").stat().st_mtime_ns == before
        # What a container does itself is not told to it a second time.
        if sftp:
            share.run("echo x > /w/watched/own")
            (folder / "last").write_text("x")
            eventually(lambda: "CLOSE_WRITE last" in told(), "the last event")
            assert told().count("CREATE own") == told().count("CLOSE_WRITE own") == 1
    finally:
        share.machine.docker("rm", "-f", name)


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


def test_added_to_a_running_machine_and_taken_away(machine: Machine, tmp_path):
    (tmp_path / "here").write_text("hello")
    facts = json.loads(machine.hostvm("mount", "add", "--json", f"{tmp_path}:/added here:ro"))
    row = next(row for row in facts if row["target"] == "/added here")
    assert (row["kind"], row["state"], row["readonly"]) == ("sftp", "mounted", True)
    assert machine.shell("cat", "/added here/here") == "hello"
    assert "ead-only" in hostvm("-m", machine.name, "shell", "--", "touch", "/added here/x").err
    machine.hostvm("mount", "rm", str(tmp_path))
    assert machine.shell("ls", "/added here") == ""
    assert "/added here" not in machine.hostvm("mount", "ls")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_share_outlives_its_agent(machine: Machine, shared_folders):
    """The agent is killed while a container has an sftp share; nobody restarts anything."""
    folder = shared_folders["sftp"]
    machine.docker("run", "-d", "--name", "outlives", "-v", f"{folder}:/w", "busybox:latest", "sleep", "3600")
    (folder / "before").write_text("before")
    try:
        agent = json.loads((Path(os.environ["HOSTVM_RUN"]) / machine.name / "agent.json").read_text())["process"][0]
        os.kill(agent, 9)
        # A command that reaches it while it dies is told "went away": it may have been begun, so nothing repeats it.
        eventually(lambda: not alive(agent), "the agent is dead")
        assert machine.docker("exec", "outlives", "cat", "/w/before") == "before"
        machine.docker("exec", "outlives", "sh", "-c", "echo after > /w/after")
        assert (folder / "after").read_text() == "after\n"
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
