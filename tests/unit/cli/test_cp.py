from __future__ import annotations

import pytest

from cli.commands import cp
from cli.commands.cp import guest_place
from cli.main import main
from hostvm import copying
from hostvm.copying import _landing, _renamed
from hostvm.paths import MachinePaths


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


def test_what_is_missing_is_to_be_made_in_the_machine_that_is_meant(monkeypatch, tmp_path, capsys):
    MachinePaths.of("ci").folder.mkdir(parents=True)
    monkeypatch.setattr(cp, "ensure_ready", lambda _: None)
    monkeypatch.setattr(copying, "_in_guest", lambda *_: "nothing")
    (tmp_path / "a").touch()
    assert main(["cp", str(tmp_path / "a"), "ci:/srv/none/"]) == 1
    assert "-> make it: hostvm -m ci shell -- mkdir -p /srv/none/" in capsys.readouterr().err
    assert main(["cp", "ci:/srv/none", str(tmp_path)]) == 1
    assert "-> look: hostvm -m ci shell -- ls -la /srv/none" in capsys.readouterr().err


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
