from __future__ import annotations

import argparse
import os
import re

import pytest

from cli.completion import Answer, answer_for, render, split_line
from cli.completion_scripts import completion_script
from cli.main import main
from cli.manage import build_parser
from hostvm import paths


@pytest.fixture(autouse=True)
def _machines():
    for name in ("default", "ci"):
        (paths.home() / "machines" / name).mkdir(parents=True)


def names(*words):
    return {value for value, _ in answer_for(list(words)).items}


def test_the_verbs_are_the_parsers():
    verbs = next(one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction)).choices
    assert names("") == set(verbs)
    assert "start" in names("-m", "ci", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["start", "--"], {"--cpus", "--memory", "--driver", "--use-context", "--json"}),
        (["start", "--driver", ""], {"auto", "qemu", "libvirt"}),
        (["stop", ""], {"default", "ci"}),
        (["-m", ""], {"default", "ci"}),
        (["docker", "-m", ""], {"default", "ci"}),
        (["move", "web", "--to", ""], {"default", "ci"}),
        (["image", ""], {"build", "base", "ls", "rm", "inspect"}),
        (["image", "build", "--arch", ""], {"amd64", "arm64"}),
        (["completion", ""], {"bash", "zsh", "fish", "powershell"}),
        (["shim", "install", "--"], {"--dir", "--socket", "--force"}),
    ],
)
def test_words_of_the_parser(words, expected):
    assert expected <= names(*words)


@pytest.mark.parametrize("words", [["no-such", ""], ["stop", "ci", ""], ["start", "--cpus", ""]])
def test_where_nothing_can_be_said(words):
    assert names(*words) == set()


def test_files_and_folders_are_the_shells():
    assert answer_for(["image", "base", "-o", ""]).switches == {"files"}
    assert answer_for(["shim", "ls", "--dir", ""]).switches == {"dirs"}


@pytest.fixture
def guest(monkeypatch):
    """What `docker __complete` prints; gives the argv it was asked with."""
    asked = []

    def prints(text):
        def ask(machine, argv):
            asked.append((machine, argv))
            return text

        monkeypatch.setattr("cli.completion._ask_guest", ask)
        return asked

    return prints


def test_what_a_terminal_would_obey_is_not_proposed(guest):
    guest("web\tabout \x1b[2J\n\x1b[2Jx\tno\n:4\n")
    assert answer_for(["docker", "stop", ""]) == Answer([("web", "about \\x1b[2J")])


def test_an_engines_words_are_asked_of_its_client(guest):
    asked = guest("pull\tDownload\npush\n_activeHelp_ x\n:4\n")
    assert answer_for(["-m", "ci", "docker", "pu"]) == Answer([("pull", "Download"), ("push", "")])
    assert asked == [("ci", ["docker", "__complete", "pu"])]
    answer_for(["compose", "--profile", "x", "u"])
    assert asked[-1] == ("default", ["docker", "__complete", "compose", "--profile", "x", "u"])


@pytest.mark.parametrize(
    ("printed", "switches"),
    [
        ("a\n:0\n", {"files"}),
        ("a\n:6\n", {"nospace"}),
        (":16\n", {"dirs"}),
        ("yml\n:8\n", {"files"}),
        ("a\n:1\n", set()),
    ],
)
def test_cobras_directives(guest, printed, switches):
    guest(printed)
    assert answer_for(["docker", ""]).switches == switches


def test_values_behind_an_equals_sign_get_their_option_back(guest):
    guest("json\ntable\n:4\n")
    assert names("docker", "ps", "--format=j") == {"--format=json", "--format=table"}


def test_a_machine_that_is_off_says_nothing(capsys):
    assert main(["__complete", "zsh", "docker", "pu"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hostvm ", ["hostvm", ""]),
        ("hostvm  docker run -v 'a b'", ["hostvm", "docker", "run", "-v", "a b"]),
        (r"hostvm a\ b c", ["hostvm", "a b", "c"]),
        ('hostvm "unfin ished', ["hostvm", "unfin ished"]),
        (r"hostvm 'a\'", ["hostvm", "a\\"]),
    ],
)
def test_a_line_as_words(line, words):
    assert split_line(line) == words


def test_bash_gets_what_stands_behind_its_break_characters():
    answer = Answer([("busybox:latest", "an image"), ("busybox:musl", ""), ("debian:trixie", "")], {"nospace"})
    assert render("bash", answer, "busybox:l", '"=:') == "nospace\nlatest\n"
    assert render("bash", answer, "busybox:l", "") == "nospace\nbusybox:latest\n"
    assert render("zsh", answer, "busybox:") == "nospace\nbusybox:latest\tan image\nbusybox:musl\n"


SHELLS = ("bash", "fish", "powershell", "zsh")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_ask_for_their_own_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert re.search(rf'\$ask"? {shell} ', text)
    assert "__complete" in text
    assert "hostvm completion " + shell in text
    assert "@" not in text.replace("@typed", "").replace("@(", "").replace("(@", "").replace('"$@"', "")


@pytest.mark.parametrize("shell", SHELLS)
def test_launchers_that_come_first_on_path_are_completed_too(shell, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.shims.sys.platform", "linux")
    for folder, program, text in (
        ("ours", "docker", "hostvm shim: docker"),
        ("ours", "docker-compose", "hostvm shim: docker-compose"),
        ("ours", "podman", "hostvm shim: podman"),
        ("theirs", "podman", "another program"),
    ):
        place = tmp_path / folder / (program + (".cmd" if os.name == "nt" else ""))
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\n# {text}\n")
        place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'theirs'}{os.pathsep}{tmp_path / 'ours'}")
    main(["completion", shell])
    with_launchers = capsys.readouterr().out
    assert "hostvm docker docker-compose" in with_launchers
    assert "docker-compose podman" not in with_launchers.replace("docker docker-compose podman nerdctl", "")
    monkeypatch.setenv("PATH", str(tmp_path / "theirs"))
    main(["completion", shell])
    assert "hostvm docker" not in capsys.readouterr().out


def test_a_launcher_asks_for_its_machines_engine(guest, capsys):
    asked = guest("pull\tDownload\npush\n:4\n")
    assert main(["-m", "ci", "docker", "__hostvm_complete", "bash", "docker pu", "=:"]) == 0
    assert capsys.readouterr().out == "\npull\npush\n"
    assert main(["compose", "__hostvm_complete", "zsh", "up", "-"]) == 0
    assert asked == [
        ("ci", ["docker", "__complete", "pu"]),
        ("default", ["docker", "__complete", "compose", "up", "-"]),
    ]


def test_bash_3_2_is_asked_for_nothing_that_it_lacks():
    """It is macOS's, and has neither of the two builtins."""
    text = completion_script("bash")
    assert "mapfile" not in text
    assert all("compopt -o" not in line for line in text.partition("type compopt")[0].splitlines())


def test_powershells_empty_word(capsys):
    assert main(["__complete", "powershell", "stop", "''"]) == 0
    assert capsys.readouterr().out.splitlines() == ["", "ci\tmachine", "default\tmachine"]
