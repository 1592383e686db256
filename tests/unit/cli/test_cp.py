from __future__ import annotations

import pytest

from cli.commands.cp import guest_place
from cli.main import main
from hostvm.copying import _landing, _renamed


@pytest.mark.parametrize(
    ("word", "place"),
    [
        (":/root/x", ("", "/root/x")),
        (":x y", ("", "x y")),
        ("ci:/var/log", ("ci", "/var/log")),
        ("ci:a:b", ("ci", "a:b")),
        ("./a:b", None),
        ("/tmp/a:b", None),
        ("notes.txt", None),
        ("ci:", None),
        ("Upper:x", None),
    ],
)
def test_which_side_a_word_is_of(word, place):
    assert guest_place(word) == place


@pytest.mark.parametrize(
    "words",
    [["a", "b"], [":a", ":b"], ["a", ":b", ":c/"], ["a", ":b", "c/"], [":a"], ["a", "b", ":c"]],
)
def test_what_cannot_be_meant_is_a_usage_error(words, capsys):
    assert main(["cp", *words]) == 2
    assert "hostvm cp" in (said := capsys.readouterr().err) or "write :c/" in said


def test_where_things_land():
    def look(path):
        return {"/srv": "folder", "/": "folder"}.get(path, "nothing")

    assert _landing("/srv", "a", "folder", look) == ("/srv", "a")
    assert _landing("/srv/", "a", "folder", look) == ("/srv/", "a")
    assert _landing("/srv/b", "a", "nothing", look) == ("/srv", "b")
    assert _landing("/b", "a", "file", look) == ("/", "b")
    for target in ("/none/b", "/srv/none/"):
        with pytest.raises(Exception, match="there is no folder"):
            _landing(target, "a", "nothing", look)


def test_only_the_first_part_of_a_name_changes():
    assert _renamed("logs", "logs", "old") == "old"
    assert _renamed("logs/logs/a", "logs", "old") == "old/logs/a"
    assert _renamed("logs2/a", "logs", "old") == "logs2/a"
