"""Files that compose, `docker buildx bake` and `docker stack deploy` read where they run; they name further ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.build_words import bake_at
from cli.docker_words import GLOBAL_WITH_VALUE, command_at, names_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_PROJECT = "--project-directory"
_COMPOSE_READS_NONE = frozenset({"", "help", "ls", "version"})
_BAKE = (*_COMPOSE, "docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl")
_BAKE_WITH_VALUE = frozenset(
    {
        *("-f", "--file", "--set", "--builder", "--progress", "--provenance", "--sbom", "--allow", "--call", "--list"),
        *("--var", "--metadata-file"),
    }
)
_STACK_WITH_VALUE = frozenset({"-c", "--compose-file", "--resolve-image", "--orchestrator", "--namespace"})
_STACK = (["stack", "deploy"], ["stack", "up"], ["stack", "config"])


def find_project(words: list[str], environ: Mapping[str, str]) -> list[str]:
    """Folders, absolute, of those that `docker WORDS` names, or finds from the working folder on, and that are here.

    The working folder is the first: what is named by its whole path is read without it, but by bake, whose builds'
    own folders count from there.
    """
    words = words[command_at(words) :]
    usual: Sequence[str]
    if names_input(words):
        return []
    if words[:1] == ["compose"]:
        named, verb = _values(words[1:], ("-f", "--file"), GLOBAL_WITH_VALUE, mixed=False)
        if "".join(verb[:1]) in _COMPOSE_READS_NONE:
            return []
        if variable := environ.get("COMPOSE_FILE", ""):
            usual = variable.split(environ.get("COMPOSE_PATH_SEPARATOR") or os.pathsep)
        else:
            usual = _compose_found(words[1:])
    elif (start := bake_at(words)) is not None:
        named, targets = _values(words[start:], ("-f", "--file"), _BAKE_WITH_VALUE, mixed=True)
        if any(_is_remote(target) for target in targets[:1]):
            return []  # files that are named are in there
        usual = _BAKE
    elif words[:2] in _STACK:
        named, _ = _values(words[2:], ("-c", "--compose-file"), _STACK_WITH_VALUE, mixed=True)
        usual = ()
    else:
        return []
    # By os: links stay as they are.
    found = [path for path in named or usual if path and os.path.exists(path)]  # noqa: PTH110
    counts = any(not os.path.isabs(path) for path in found) or (found and words[0] == "buildx")  # noqa: PTH117
    folders = [os.getcwd()] if counts else []  # noqa: PTH109
    return [*folders, *(os.path.dirname(os.path.abspath(path)) for path in found)]  # noqa: PTH100, PTH120


def _compose_found(words: list[str]) -> list[str]:
    """What compose finds where nothing is named: in the project's folder, else in the nearest above that has any."""
    named, _ = _values(words, (_PROJECT, _PROJECT), GLOBAL_WITH_VALUE, mixed=False)
    folder = named[-1] if named else os.curdir
    while True:
        found = [path for name in _COMPOSE if os.path.exists(path := os.path.join(folder, name))]  # noqa: PTH110, PTH118
        if found or not os.path.exists(folder):  # noqa: PTH110
            return found
        above = os.path.normpath(os.path.join(folder, os.pardir))  # noqa: PTH118
        try:
            if os.path.abspath(above) == os.path.abspath(folder):  # noqa: PTH100
                return found
        except OSError:
            return found  # the working folder was deleted meanwhile
        folder = above


def bake_takes_next(word: str) -> bool:
    """Whether an option of `buildx bake` has its value in the next word."""
    return word in _BAKE_WITH_VALUE


def _values(
    words: list[str], options: tuple[str, str], with_value: frozenset[str], *, mixed: bool
) -> tuple[list[str], list[str]]:
    """What an option names, by its short or long name, and the words that are no options.

    :param mixed: options may follow those.
    """
    short, long = options
    named, others = [], []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--" or (not mixed and not word.startswith("-")):
            others += words[at:]
            break
        if word in options:
            named += words[at + 1 : at + 2]
        elif word.startswith(f"{long}="):
            named.append(word.partition("=")[2])
        elif word.startswith(short) and not word.startswith("--"):
            named.append(word[len(short) :].removeprefix("="))
        elif not word.startswith("-"):
            others.append(word)
        at += 2 if word in with_value else 1
    return named, others


def _is_remote(target: str) -> bool:
    return "://" in target or target.startswith(("git@", "github.com/")) or target.endswith(".git")
