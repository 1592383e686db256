"""Compose, bake and stacks by the guest's client, whose files must be in shared folders."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

import pytest

from cli import engine_words, project_files
from cli.project_files import find_project
from hostvm.agent import client
from hostvm.errors import ForwardError
from hostvm.shares import client as shares
from hostvm.shares.model import Mount


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with files of each kind, and one beside it with another."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    for name in ("here/compose.yaml", "here/docker-bake.hcl", "here/stack.yml", "there/one.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        ("compose up", "here here"),
        ("compose -f compose.yaml -f ../there/one.yaml up", "here here there"),
        ("compose --file=THERE/one.yaml -p x up", "there"),
        ("compose -fTHERE/one.yaml up", "there"),
        ("compose -f - up", ""),
        ("compose -f none.yaml up", ""),
        ("compose -p x run -f compose.yaml web", "here here"),
        ("compose --project-directory THERE -f THERE/one.yaml up", "there"),
        ("compose ls", ""),
        ("compose --ansi never version", ""),
        ("compose --help", ""),
        ("buildx bake", "here here here"),
        ("buildx --builder=b bake", "here here here"),
        ("-D buildx bake --set *.platform=x web", "here here here"),
        ("buildx bake -f THERE/one.yaml web", "here there"),
        ("buildx bake --file docker-bake.hcl", "here here"),
        ("buildx bake https://github.com/a/b.git -f docker-bake.hcl", ""),
        ("buildx bake -f -", ""),
        ("buildx bake -f none.hcl", ""),
        ("buildx build .", ""),
        ("stack deploy -c stack.yml web", "here here"),
        ("stack deploy web --compose-file=THERE/one.yaml", "there"),
        ("stack up -cstack.yml web", "here here"),
        ("stack deploy -c - web", ""),
        ("stack deploy web", ""),
        ("stack ls", ""),
    ],
)
def test_the_folders_that_must_be_there(here, line, folders):
    there = str(here.parent / "there")
    assert find_project(line.replace("THERE", there).split(), {}) == [
        str(here if one == "here" else there) for one in folders.split()
    ]


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        ("compose up", "here/deep/er here"),
        ("-D compose -p x up -d", "here/deep/er here"),
        ("compose --project-directory ../../../far/off up", "here/deep/er far"),
        ("compose --project-directory FAR/off up", "far"),
        ("compose --project-directory=FAR up", "far"),
        ("compose -f one.yaml up", "here/deep/er here/deep/er"),
        ("compose -f compose.yaml up", ""),
        ("buildx bake", ""),
    ],
)
def test_compose_looks_in_the_folders_above_where_its_own_has_none(here, monkeypatch, line, folders):
    """The nearest is meant, as compose has it; bake looks no further than where it runs."""
    top = here.parent
    for folder in ("here/deep/er", "far/off"):
        (top / folder).mkdir(parents=True)
    for name in ("far/docker-compose.yml", "compose.yaml", "here/deep/er/one.yaml"):
        (top / name).touch()
    monkeypatch.chdir(here / "deep/er")
    words = line.replace("FAR", str(top / "far")).split()
    assert find_project(words, {}) == [str(top / one) for one in folders.split()]


def test_above_the_last_folder_is_none(monkeypatch):
    """Which is where looking ends."""
    monkeypatch.setattr(project_files, "_COMPOSE", ("nobody-has-such-a-file.yaml",))
    assert find_project(["compose", "up"], {}) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a working folder go")
def test_above_a_working_folder_that_is_gone_is_none(here):
    shutil.rmtree(here)
    assert find_project(["compose", "up"], {}) == []
    there = here.parent / "there"
    (there / "compose.yaml").touch()
    (there / "deeper").mkdir()
    assert find_project(["compose", "--project-directory", str(there / "deeper"), "ps"], {}) == [str(there)]


def test_a_file_of_the_environment_is_composes(here):
    named = {"COMPOSE_FILE": f"none.yaml{os.pathsep}{here.parent}/there/one.yaml"}
    assert find_project(["compose", "up"], named) == [str(here.parent / "there")]
    assert find_project(["compose", "-f", "stack.yml", "up"], named) == [str(here)] * 2


@pytest.fixture
def forwarded(monkeypatch):
    """What is; `shared` are the machine's folders."""
    made, shared = [], []
    monkeypatch.setattr(engine_words, "_forward", lambda _, argv, **_options: made.append(argv) or 0)
    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(shares, "shared_mounts", lambda _: shared)
    return made, shared


@pytest.mark.parametrize(
    "line",
    [
        *("compose up", "buildx bake", "buildx bake -f docker-bake.hcl web", "buildx --builder b bake"),
        "stack deploy -c stack.yml web",
    ],
)
def test_a_folder_that_is_not_shared_is_told_of(here, forwarded, line):
    made, shared = forwarded
    with pytest.raises(ForwardError, match="is not shared with the machine at the same path") as caught:
        engine_words._run_in_guest("box", ("docker",), line.split())
    assert caught.value.resolution == f"hostvm mount add {shlex.quote(str(here))} -m box"
    assert made == []
    shared.append(Mount(str(here), str(here)))
    assert engine_words._run_in_guest("box", ("docker",), line.split()) == 0
    assert made == [["docker", *line.split()]]


def test_it_is_the_one_of_the_file_that_is_named(here, forwarded):
    made, shared = forwarded
    shared.append(Mount(str(here), str(here)))
    words = ["stack", "deploy", "-c", "../there/one.yaml", "web"]
    with pytest.raises(ForwardError) as caught:
        engine_words._run_in_guest("default", ("docker",), words)
    assert caught.value.resolution == f"hostvm mount add {shlex.quote(str(here.parent / 'there'))}"
    assert made == []


def test_what_is_shared_is_so_under_its_name_on_windows(monkeypatch):
    """Which is spelled otherwise in the guest: compose was refused in every folder."""
    monkeypatch.setattr(client, "agent_is_ready", lambda _: True)
    monkeypatch.setattr(shares, "shared_mounts", lambda _: [Mount("C:\\x", "/c/x"), Mount("C:\\y", "/other")])
    monkeypatch.setattr(engine_words.sys, "platform", "win32")
    assert engine_words._are_in_guest("box", ["C:\\x"])
    assert not engine_words._are_in_guest("box", ["C:\\y"])
    assert not engine_words._are_in_guest("box", ["\\\\server\\x"])
