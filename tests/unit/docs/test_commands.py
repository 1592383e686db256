"""Every `hostvm …` line, option and settings file that a page shows is one that hostvm takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from cli.main import split_globals
from cli.manage import build_parser, split_command
from cli.set_words import assign, split_words
from hostvm.errors import UsageError
from hostvm.sizes import GIB
from hostvm.spec import BY_KEY, text_settings
from runtime.words import FORWARDED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What stands behind a command: a comment, another program, words that explain it.
_BEHIND = re.compile(r"\s+#| {2,}|\s*\|\s|\s*(?:&&|;)|\)\"|\s>\s|\s→|\s2>")
_FENCED = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_UNFINISHED = ("are required", "expected one argument", "expected at least one argument")


def _blocks(text: str) -> Iterator[str]:
    yield from (found[1] for found in _FENCED.finditer(text))


def _spans(text: str) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _FENCED.sub("", text))]


def _commands(text: str) -> Iterator[str]:
    for found in re.finditer(r"(?<![`\w./-])hostvm (?!import\b)(\S.*)", text):
        command = _BEHIND.split(found[1], maxsplit=1)[0]
        if command and "COMMAND" not in command and not command.startswith("#"):
            yield command


def _refused(command: str) -> str:
    """Why hostvm would not take the words; "" when it would."""
    words = shlex.split(re.sub(r"\[-- .*\]|…|\.\.\.", "", command).removesuffix("\\"))
    found = split_globals(words)
    if not found.rest or found.rest[0] in FORWARDED:
        return ""
    try:
        options, unknown = build_parser(found.rest[0]).parse_known_args(split_command(found.rest)[0])
        if unknown:
            return f"unknown: {unknown}"
        if found.rest[0] == "set":
            name, settings = split_words(options.words)
            assign("", settings)
            return "" if name is None or re.fullmatch("[a-z-]+", name) else f"the machine {name}"
    except UsageError as fault:
        return f"{fault.brief} {fault.details or ''}"
    except SystemExit:  # --help
        return ""
    return ""


@pytest.fixture(autouse=True)
def large_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("hostvm.spec.host_memory", lambda: 256 * GIB)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_hostvm_takes_every_command_of_the_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = [(command, why) for block in _blocks(text) for command in _commands(block) if (why := _refused(command))]
    for span in _spans(text):
        for command in _commands(span):
            why = _refused(command)
            if why and not any(words in why for words in _UNFINISHED):  # prose names commands by their first words
                wrong.append((command, why))
    assert not wrong


def test_there_are_commands_to_take() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum(len(list(_commands(block))) for text in texts for block in _blocks(text)) > 50
    assert sum(len(list(_commands(span))) for text in texts for span in _spans(text)) > 50
    assert _refused("start --colour")
    assert _refused("nothing")
    assert _refused("set colour=red")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_settings_file_of_the_page_is_sound(page: Path) -> None:
    for block in _blocks(page.read_text(encoding="utf-8")):
        try:
            values = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        if isinstance(values, dict) and values and set(values) <= set(BY_KEY):
            assert text_settings(block, page.name)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from _parsers(below)


def test_the_table_of_commands_names_what_there_is() -> None:
    parsers = {parser.prog: parser for parser in _parsers(build_parser())}
    options = {option for parser in parsers.values() for option in parser._option_string_actions}
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    for row in rows:
        first = re.split(r"(?<!\\)\|", row)[1]
        group = ""
        for span in _spans(first):
            if span.endswith(":"):  # a key of machine.yaml
                assert span[:-1] in BY_KEY, row
                continue
            verb, part = [*span.removeprefix("hostvm ").split(), "", ""][:2]
            if f"hostvm {verb} {part}" in parsers:
                group = verb
            else:
                assert verb in FORWARDED or {f"hostvm {verb}", f"hostvm {group} {verb}"} & parsers.keys(), (span, row)
        for span in _spans(row):
            if span.startswith("--"):
                assert span.split()[0] in options, (span, row)


def test_every_command_is_in_the_table_or_on_a_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    words = {word for row in text.splitlines() if row.startswith("| `") for word in re.findall(r"[\w-]+", row)}
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = [parser.prog for parser in _parsers(build_parser()) if parser.prog != "hostvm"]
    assert len(commands) > 60
    assert not [command for command in commands if command.split()[-1] not in words and command not in pages]
