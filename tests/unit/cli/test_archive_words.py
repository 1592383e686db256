"""`docker save -o`, `export -o` and `load -i` by the guest's client: their files are this computer's."""

from __future__ import annotations

import os

import pytest

from cli import engine_words
from cli.archive_words import Archive, find_archive, run_archive


@pytest.mark.parametrize(
    ("line", "words", "path"),
    [
        ("save -o a.tar web", "save web", "a.tar"),
        ("save web -o a.tar some-dir", "save web some-dir", "a.tar"),
        ("image save --output=a.tar web", "image save web", "a.tar"),
        ("save -oa.tar --platform linux/arm64 web", "save --platform linux/arm64 web", "a.tar"),
        ("save -o=a.tar -- web", "save -- web", "a.tar"),
        ("-D container export --output /x/a.tar web", "-D container export web", "/x/a.tar"),
        ("export -o a.tar -o b.tar web", "export web", "b.tar"),
        ("load -i a.tar", "load", "a.tar"),
        ("load -qi a.tar", "load -q", "a.tar"),
        ("load -qia.tar", "load -q", "a.tar"),
        ("image load --input a.tar --quiet", "image load --quiet", "a.tar"),
    ],
)
def test_the_file_becomes_a_stream(line, words, path):
    assert find_archive(line.split()) == Archive(words.split(), path, "load" in line)


@pytest.mark.parametrize(
    "line",
    [
        "save web",
        "load",
        "load -q",
        "save -o",
        "save -o /dev/null web",
        "save -o - web",
        "ps -o x",
        "run save -o a.tar",
        "save --format oci-dir -o folder web",
        "save --format=docker-dir -o folder web",
        "save -- -o a.tar",
        "-H tcp://other save -o a.tar web",
    ],
)
def test_what_names_no_file_stays(line):
    assert find_archive(line.split()) is None


def test_what_is_written_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"before")

    def run(words, stdin):
        assert (words, stdin) == (["save", "web"], None)
        os.write(1, b"an image")
        return status

    archive = Archive(["save", "web"], str(path), reads=False)
    status = 1
    assert run_archive(archive, run) == 1
    assert path.read_bytes() == b"before"
    status = 0
    assert run_archive(archive, run) == 0
    assert path.read_bytes() == b"an image"
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar"]


def test_what_is_read_is_the_commands_input(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"an image")
    archive = Archive(["load"], str(tmp_path / "a.tar"), reads=True)
    assert run_archive(archive, lambda _, stdin: 0 if os.read(stdin, 100) == b"an image" else 1) == 0
    assert (tmp_path / "a.tar").read_bytes() == b"an image"


@pytest.mark.parametrize(("path", "reads"), [("none.tar", True), ("none/a.tar", False), ("", False)])
def test_a_file_that_cannot_be_had_is_told(tmp_path, capsys, path, reads):
    assert run_archive(Archive(["x"], str(tmp_path / path), reads), lambda *_: pytest.fail("was run")) == 1
    assert str(tmp_path / path) in capsys.readouterr().err


@pytest.mark.parametrize("shared", [True, False])
def test_one_that_the_guest_has_under_its_name_is_left_to_its_client(tmp_path, monkeypatch, shared):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"")
    asked, made = [], []
    monkeypatch.setattr(engine_words, "_in_guest_as_here", lambda _, named: asked.append(named) or shared)
    monkeypatch.setattr(engine_words, "_forward", lambda _, argv, **options: made.append((argv, options)) or 0)
    assert engine_words._run_in_guest("box", ("docker",), ["load", "-i", "a.tar"]) == 0
    assert asked == [[str(tmp_path / "a.tar")]]
    ((argv, options),) = made
    assert argv == (["docker", "load", "-i", "a.tar"] if shared else ["docker", "load"])
    assert (options["stdin"] is None) is shared
    assert shared or not options.get("tty")
