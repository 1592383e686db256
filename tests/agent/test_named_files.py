"""Files of this computer that the guest's client would read and write in the guest. The guest is a folder here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from agent_rig import ENVIRONMENT, until

from cli import engine_words, named_files
from cli.named_files import find_files
from hostvm.agent import client
from hostvm.errors import ForwardError


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run --cidfile a image", [(2, "", "a", "new")]),
        (
            "-D container run -d --cidfile=a -e X --env-file b image",
            [(4, "--cidfile=", "a", "new"), (8, "", "b", "env")],
        ),
        ("create --label-file a --cidfile b image", [(2, "", "a", "read"), (4, "", "b", "new")]),
        ("exec --env-file a web env", [(2, "", "a", "env")]),
        ("run image --cidfile a", []),
        ("run --name --cidfile image", []),
        ("run --cidfile= image", []),
        ("build . --iidfile a --metadata-file=b", [(3, "", "a", "id"), (4, "--metadata-file=", "b", "written")]),
        ("buildx build --iidfile a -", [(3, "", "a", "id")]),
        ("build -t --iidfile a", []),
        ("build -- --iidfile a", []),
        ("build --secret id=a,src=b .", [(2, "id=a,src=", "b", "read")]),
        ("buildx build --secret=source=b,id=a .", [(2, "--secret=id=a,src=", "b", "read")]),
        ("build --secret id=a .", [(2, "id=a,src=", "a", "read")]),
        ("build --secret id=a,scr=b .", []),
        ("build --secret id=TZ --secret id=a,env=TZ --secret id=a,type=env,src=TZ --secret id=a,env=NONE .", []),
        ("build --secret id=a,env=PATH .", [(2, "id=a,src=", "PATH", "variable")]),
        ("build --secret id=PATH .", [(2, "id=PATH,src=", "PATH", "variable")]),
        ("build -t --secret id=a,src=b", []),
        ("run --secret id=a,src=b image", []),
        ("buildx bake -f - --metadata-file a", [(5, "", "a", "written")]),
        ("buildx --builder b bake --metadata-file=a", [(4, "--metadata-file=", "a", "written")]),
        ("compose --env-file a run web", []),
        ("rm --cidfile a", []),
    ],
)
def test_options_are_found_where_they_are_options(line, found, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    assert find_files(line.split()) == found


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """What is asked of it is run here; `does(paths)` is what docker does with the paths that it is given there."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    made = SimpleNamespace(here=here, there=there, words=[], status=0, does=lambda *_: None)

    def run(_, argv, timeout=0.0):
        done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
        return SimpleNamespace(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    class Pipe:
        def __init__(self, _, argv):
            self.program = subprocess.Popen(argv, stdin=subprocess.PIPE)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.program.communicate(timeout=60)

        def write(self, data):
            self.program.stdin.write(data)

        def finish(self):
            self.program.communicate(timeout=60)
            assert self.program.returncode == 0

    def forward(_, argv, **options):
        made.words.append(argv)
        made.does(*(word.rpartition("=")[2] for word in argv if str(there) in word))
        return made.status

    monkeypatch.setattr(named_files, "run_in_guest", run)
    monkeypatch.setattr(named_files, "GuestPipe", Pipe)
    monkeypatch.setattr(named_files, "_PLACE", f"{there}/XXXXXX")
    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(engine_words, "_in_guest_as_here", lambda *_: False)
    monkeypatch.setattr(engine_words, "_forward", forward)
    yield made
    assert list(there.iterdir()) == [], "nothing stays in the guest"


def run(line: str) -> int:
    return engine_words._run_in_guest("box", ("docker",), line.split())


def put(path, text):
    Path(path).write_text(text)


def test_a_containers_id_is_here_while_it_runs(guest):
    """A script that waits for it stops the container with it."""
    seen = threading.Event()
    path = guest.here / "a"

    def does(there):
        assert path.read_bytes() == b"", "it is made before"
        put(there, "abc")
        for _ in range(600):
            if path.read_bytes() == b"abc":
                seen.set()
                return
            seen.wait(0.1)

    guest.does, guest.status = does, 3
    assert run("run --cidfile a image") == 3
    assert seen.is_set()
    assert path.read_bytes() == b"abc"
    assert guest.words[0][:3] == ["docker", "run", "--cidfile"]


def test_one_whose_container_could_not_be_made_is_gone(guest):
    guest.status = 125
    assert run("create --cidfile=a image") == 125
    assert list(guest.here.iterdir()) == []


@pytest.mark.parametrize(("verb", "status"), [("run", 125), ("container run -d", 125), ("create", 1)])
def test_one_that_is_there_is_refused_as_docker_does(guest, capsys, verb, status):
    (guest.here / "a").write_text("before")
    assert run(f"{verb} --cidfile a image") == status
    assert guest.words == []
    assert (guest.here / "a").read_text() == "before"
    told = "docker: container ID file found, make sure the other container isn't running or delete a\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "line", ["build --iidfile a --metadata-file=b -", "buildx build - --iidfile=a --metadata-file b"]
)
def test_what_a_build_tells_is_written_here(guest, line):
    (guest.here / "a").write_text("before, and longer")
    guest.does = lambda one, other: (put(one, "sha256:1"), put(other, "{}"))
    assert run(line) == 0
    assert (guest.here / "a").read_text() == "sha256:1"
    assert (guest.here / "b").read_text() == "{}"


def test_a_build_that_fails_leaves_no_id_of_another_one(guest):
    (guest.here / "a").write_text("sha256:1")
    (guest.here / "b").write_text("{}")
    guest.status = 1
    assert run("build --iidfile a --metadata-file b -") == 1
    assert [path.name for path in guest.here.iterdir()] == ["b"]


def test_a_build_of_a_folder_here_does_too(guest):
    (guest.here / "app").mkdir()
    guest.does = lambda there: put(there, "sha256:1")
    assert run("build --iidfile a app") == 0
    assert (guest.here / "a").read_text() == "sha256:1"


def test_what_is_read_is_read_here(guest):
    (guest.here / "a").write_text("A=1\nB")
    (guest.here / "b").write_text("l=1")
    seen = []
    guest.does = lambda *paths: seen.extend(Path(path).read_text() for path in paths)
    assert run("run --env-file a --label-file=b image") == 0
    assert seen == ["A=1\nB", "l=1"]


def test_one_that_is_missing_is_told_of_before_anything_begins(guest, capsys):
    assert run("run --cidfile c --env-file none image") == 125
    assert run("exec --env-file none web env") == 1
    assert capsys.readouterr().err == "docker: open none: no such file or directory\n" * 2
    assert guest.words == []
    assert list(guest.here.iterdir()) == []


def test_what_the_guest_has_under_the_same_name_is_left_to_its_client(guest, monkeypatch):
    monkeypatch.setattr(engine_words, "_in_guest_as_here", lambda *_: True)
    assert run("run --cidfile a image") == 0
    assert guest.words == [["docker", "run", "--cidfile", "a", "image"]]


@pytest.mark.parametrize("also_there", [False, True])
def test_a_file_of_variables_means_those_of_this_computer(guest, monkeypatch, also_there):
    """Those that do not travel get their values; the others the guest's client has, or they are nowhere."""
    monkeypatch.setattr(engine_words, "_in_guest_as_here", lambda *_: also_there)
    for name, value in (("USER", "me"), ("LANG", "C\nD"), ("TZ", "UTC")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NONE", raising=False)
    (guest.here / "a").write_bytes(b"A=1\n  USER\nUSER=\n#USER\nTZ\nLANG\nNONE\n\xff\n\n")
    seen = []
    guest.does = lambda path: seen.append(Path(path).read_bytes())
    assert run("run --env-file a image") == 0
    assert seen == [b"A=1\nUSER=me\nUSER=\n#USER\nTZ\nLANG\nNONE\n\xff\n\n"]


@pytest.mark.parametrize("context", ["app", "-"])
def test_a_builds_secret_is_in_the_guest_for_its_user_while_the_build_runs(guest, context):
    (guest.here / "app").mkdir()
    (guest.here / "key").write_text("hunter2")
    seen = []
    guest.does = lambda path: seen.append((Path(path).read_text(), Path(path).stat().st_mode & 0o777))
    guest.status = 1
    assert run(f"build --secret id=a,src=key {context}") == 1
    assert seen == [("hunter2", 0o600)]


@pytest.mark.parametrize(
    "secret", ["id=a,env=SSH_PRIVATE_KEY", "id=a,type=env,src=SSH_PRIVATE_KEY", "type=env,id=a,env=SSH_PRIVATE_KEY"]
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_secret_of_a_variable_that_stays_here_is_carried(guest, monkeypatch, secret, shared):
    """It was empty in the build, in silence: the guest's client has no variable of that name."""
    monkeypatch.setenv("SSH_PRIVATE_KEY", "hunter2")
    monkeypatch.setattr(engine_words, "_in_guest_as_here", lambda *_: shared)
    seen = []
    guest.does = lambda path: seen.append(Path(path).read_text())
    assert run(f"build --secret {secret} https://example.com/a.git") == 0
    assert seen == ["hunter2"]
    assert guest.words[0][3].startswith(f"id=a,src={guest.there}")


def test_a_secret_named_like_a_variable_that_stays_here_is_its_value(guest, monkeypatch):
    monkeypatch.setenv("GPG_PHRASE", "hunter2")
    seen = []
    guest.does = lambda path: seen.append(Path(path).read_text())
    assert run("build --secret id=GPG_PHRASE -") == 0
    assert seen == ["hunter2"]


@pytest.mark.parametrize("line", ["build --secret id=a,src=key -", "run --env-file key image"])
def test_of_a_command_that_ends_by_force_nothing_secret_stays_in_the_guest(guest, monkeypatch, line):
    """It lay there until the machine's next start. Killed, it deletes nothing: the guest sees its connection end."""
    (guest.here / "key").write_text("hunter2")
    usual = named_files.run_in_guest

    def run_in_guest(place, argv, timeout=0.0):
        if argv[0] == "rm":
            raise ForwardError("the agent went away")
        return usual(place, argv, timeout)

    monkeypatch.setattr(named_files, "run_in_guest", run_in_guest)
    assert run(line) == 0
    assert guest.words, "it ran"


_KILLED = """
import sys
from pathlib import Path
from cli import named_files
from cli.forward import forward

run_dir, named_files._PLACE, *words = sys.argv[1:]
run_dir, show = Path(run_dir), ["sh", "-c", 'cat "$1"; exec sleep 600', "show"]
named_files.run_with_files(
    named_files.find_files(words), words, run_dir, lambda changed: forward(run_dir, [*show, changed[2]], stdin=None)
)
"""


@pytest.mark.parametrize("harmed", ["the command", "the agent"])
def test_nothing_secret_stays_of_what_is_killed(own_agent, tmp_path, harmed):
    (tmp_path / "key").write_text("hunter2\n")
    place = f"{tempfile.gettempdir()}/hostvm-{uuid.uuid4().hex}."  # the guest's user may not write in `tmp_path`

    def there():
        return list(Path(place).parent.glob(f"{Path(place).name}*"))

    own_agent.start()
    words = ["run", "--env-file", str(tmp_path / "key"), "image"]
    argv = [sys.executable, "-c", _KILLED, str(own_agent.run_dir), f"{place}XXXXXX", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as command:
        try:
            assert command.stdout.readline() == b"hunter2\n"
            assert len(there()) == 1
            (command if harmed == "the command" else own_agent.process).kill()
            until(lambda: there() == [])
        finally:
            command.kill()
