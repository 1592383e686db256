"""`hostvm logs --follow` of real files that are begun anew meanwhile, each as its owner does it."""

from __future__ import annotations

import os

import pytest

from cli.commands import look
from cli.main import main
from hostvm.agent.log import AgentLog
from hostvm.drivers.consoles import cut_console, previous_console, rotate_console
from hostvm.paths import MachinePaths


@pytest.fixture
def follow(monkeypatch, capsys):
    """Follows files while steps are done, each between two looks; gives what was shown after each."""

    def run(files, *steps):
        waiting, shown = list(steps), []

        def step(seconds):
            shown.append(capsys.readouterr().out)
            if not waiting:
                raise KeyboardInterrupt
            waiting.pop(0)()

        monkeypatch.setattr(look.time, "sleep", step)
        with pytest.raises(KeyboardInterrupt):
            look._follow(files)
        return shown

    return run


@pytest.fixture
def console(tmp_path):
    made = tmp_path / "console.log"
    made.write_bytes(b"old words\n" * 20)
    return made


def says(path, text):
    """As a hypervisor that appends."""

    def say():
        with path.open("ab") as file:
            file.write(text)

    return say


def test_what_comes_is_shown_and_what_was_there_is_not(follow, console):
    assert follow([console], says(console, b"one\n"), lambda: None, says(console, b"two\n")) == [
        "",
        "one\n",
        "",
        "two\n",
    ]


def test_a_new_boot_follows_the_last_words_of_the_one_before(follow, console):
    def boot():
        says(console, b"last words\n")()
        rotate_console(console)
        says(console, b"old words\n" * 2)()

    assert follow([console], boot, says(console, b"more\n")) == ["", "last words\n" + "old words\n" * 2, "more\n"]


@pytest.mark.parametrize("words", [1, 1000])
def test_a_console_that_is_cut_goes_on(follow, console, words):
    """Also when it is longer than before by the time of the next look."""

    def cut():
        says(console, b"last words\n")()
        assert cut_console(console, 150)
        says(console, b"next words\n" * words)()

    _, shown, more = follow([console], cut, says(console, b"more\n"))
    first, _, rest = shown.partition(f"what was here: {previous_console(console).name}\n")
    assert first.startswith("last words\nhostvm: ")
    assert (rest, more) == ("next words\n" * words, "more\n")


def test_an_agent_s_log_that_is_full_goes_on(follow, tmp_path):
    path = tmp_path / "agent.log"
    log = AgentLog(str(path), most=100)
    log("first")

    def fill():
        for number in range(5):
            log(f"line {number}")

    shown = follow([path], fill, lambda: log("after"))
    assert path.with_name("agent.log.1").exists()
    assert [line[20:] for line in "".join(shown).splitlines()] == [*(f"line {number}" for number in range(5)), "after"]


def test_a_log_that_is_not_there_yet_and_one_that_goes(follow, console, tmp_path):
    later = tmp_path / "provision.log"
    shown = follow(
        [console, later],
        says(later, b"script\n"),
        console.unlink,
        says(console, b"new\n"),
    )
    assert shown == ["", "script\n", "", "new\n"]


def test_a_letter_that_comes_in_two_parts_is_one(follow, console):
    whole = "é\n".encode()
    assert follow([console], says(console, whole[:1]), says(console, whole[1:])) == ["", "", "é\n"]


@pytest.mark.skipif(os.name == "nt", reason="a pipe's end differs there")
def test_a_reader_that_left_ends_it(console, monkeypatch):
    def left(*_):
        raise BrokenPipeError

    monkeypatch.setattr(look.time, "sleep", lambda _: says(console, b"more\n")())
    monkeypatch.setattr(look.sys.stdout, "writelines", left)
    with pytest.raises(BrokenPipeError):
        look._follow([console])


@pytest.mark.parametrize(("count", "shown"), [("0", ""), ("1", "two\n"), ("99999999", "one\ntwo\n")])
def test_as_many_lines_as_are_asked_for(capsys, count, shown):
    paths = MachinePaths.of("box")
    paths.folder.mkdir(parents=True)
    paths.console.write_text("one\ntwo\n")
    assert main(["logs", "--console", "-n", count, "box"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("count", ["-1", "", "x", "9" * 5000])
def test_no_number_of_lines(capsys, count):
    MachinePaths.of("box").folder.mkdir(parents=True)
    assert main(["logs", f"-n{count}" if count else "-n=", "box"]) == 2
    assert "is no number of lines" in capsys.readouterr().err
