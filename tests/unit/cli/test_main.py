from __future__ import annotations

import pytest

from cli.main import main, split_globals
from cli.manage import build_parser, split_command
from runtime.words import FORWARDED


@pytest.mark.parametrize(
    ("words", "machine", "rest"),
    [
        (["docker", "ps"], "", ["docker", "ps"]),
        (["-m", "ci", "docker", "ps"], "ci", ["docker", "ps"]),
        (["docker", "-m", "ci", "ps"], "ci", ["docker", "ps"]),
        (["--machine=ci", "compose", "up"], "ci", ["compose", "up"]),
        (["docker", "run", "-m", "1g", "x"], "", ["docker", "run", "-m", "1g", "x"]),
        (["start", "-m", "ci"], "", ["start", "-m", "ci"]),
    ],
)
def test_which_machine_and_which_words(words, machine, rest):
    found = split_globals(words)
    assert (found.machine, found.rest) == (machine, rest)


def test_the_environment_names_a_machine(monkeypatch):
    monkeypatch.setenv("HOSTVM_MACHINE", "lab")
    assert split_globals(["docker", "ps"]).chosen() == "lab"
    assert split_globals(["-m", "ci", "docker"]).chosen() == "ci"
    monkeypatch.delenv("HOSTVM_MACHINE")
    assert split_globals([]).chosen() == "default"


def test_leading_switches():
    found = split_globals(["-v", "-q", "--json", "--debug", "ls"])
    assert (found.verbose, found.quiet, found.json, found.debug, found.rest) == (1, True, True, True, ["ls"])


def test_words_behind_two_hyphens_are_exact():
    assert split_command(["shell", "--", "a", "--", ""]) == (["shell"], ["a", "--", ""])
    assert split_command(["shell"]) == (["shell"], None)


def test_wrong_words_are_a_usage_error_with_a_next_step(capsys):
    assert main(["start", "--colour", "red"]) == 2
    told = capsys.readouterr().err
    assert "--colour" in told
    assert "hostvm --help" in told or "hostvm start --help" in told


def test_a_bad_machine_name_for_a_forwarded_word_is_125(capsys):
    assert main(["-m", "No Such", "docker", "ps"]) == 125
    assert "cannot be a machine's name" in capsys.readouterr().err


def test_every_command_has_help_and_examples():
    parser = build_parser()
    verbs = next(action for action in parser._actions if hasattr(action, "choices") and action.choices).choices
    for name, verb in verbs.items():
        if name in FORWARDED or isinstance(verb._actions[-1].choices, dict):
            continue  # the engines' own, and those that only hold others
        assert verb.description, name
        assert f"hostvm {name}" in verb.epilog or "hostvm " in verb.epilog, name
