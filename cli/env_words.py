"""Variables that docker's words name without a value, `-e NAME` and `--build-arg NAME`, which mean this computer's.

Most travel with the command (cli/guest_env.py). Those that describe this computer do not, and would be missing in
silence where a word asks for one of them: there it gets its value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.build_options import read_build
from cli.docker_words import front_of, takes_next, verb_words

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_PROGRAMS, _OF_BUILDS = "--env", "--build-arg"


def may_name_variables(words: list[str]) -> bool:
    """A cheap first look: whether any word can be one of the options above."""
    return any(
        word.startswith((_OF_PROGRAMS, _OF_BUILDS)) or (word[:1] == "-" and word[1:2] != "-" and "e" in word)
        for word in words
    )


def with_values(words: list[str], environ: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """The same words, with the value of what is named alone and is not `there`.

    :param words: docker's, without "docker" itself.
    :param environ: this process's.
    :param there: what the guest's client gets of it.
    """
    found = list(words)
    for at, front in _places(words):
        name = words[at][len(front) :]
        if name in environ and name not in there:
            found[at] = f"{front}{name}={environ[name]}"
    return found


def _places(words: list[str]) -> list[tuple[int, str]]:
    """Index of each word that holds a variable, and what stands before it there."""
    verb, at = verb_words(words)
    if verb in ("run", "create", "exec"):
        return _of_programs(words, verb, at)
    if verb == "build" and "compose" in words[:at]:
        return _named(words, at)
    return [(one.at, one.front) for one in read_build(words).options if one.name == _OF_BUILDS]


def _of_programs(words: list[str], verb: str, at: int) -> list[tuple[int, str]]:
    found = []
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        word = words[at]
        if word.startswith(f"{_OF_PROGRAMS}="):
            found.append((at, f"{_OF_PROGRAMS}="))
        elif word == _OF_PROGRAMS or (front := front_of(word, "e")) == word:
            found.append((at + 1, ""))
        elif front is not None:
            found.append((at, f"{front}=" if word.startswith(f"{front}=") else front))
        at += 2 if takes_next(verb, word) else 1
    return [(place, front) for place, front in found if place < len(words)]


def _named(words: list[str], at: int) -> list[tuple[int, str]]:
    found = []
    for place, word in enumerate(words[at:], at):
        if word.startswith(f"{_OF_BUILDS}="):
            found.append((place, f"{_OF_BUILDS}="))
        elif place and words[place - 1] == _OF_BUILDS:
            found.append((place, ""))
    return found
