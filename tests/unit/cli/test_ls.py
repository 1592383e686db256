"""`hostvm ls`: the table, the names alone, JSON; of no machine, too."""

from __future__ import annotations

import json

import pytest
from machine_files import make_box  # a helper of unit tests

from cli.main import main
from hostvm.paths import MachinePaths


def test_without_a_machine_there_is_a_head_alone(capsys):
    assert main(["ls"]) == 0
    assert capsys.readouterr().out.split() == [
        *("NAME", "STATUS", "CPUS", "MEMORY", "DISK", "DRIVER", "ENGINE", "SSH", "IMAGE")
    ]
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("words", [["ls", "-q"], ["ls", "--quiet"], ["-q", "ls"]])
def test_names_alone(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == ""
    made, damaged = make_box(), MachinePaths.of("sick")
    damaged.folder.mkdir()
    assert main(words) == 0
    assert capsys.readouterr().out.split() == [made.name, damaged.name]


def test_json_is_whole_when_quiet(capsys):
    name = make_box().name
    assert main(["ls", "-q", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["status"]) == (name, "stopped")
