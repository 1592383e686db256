"""Folders of this computer in docker's words: `-v SRC:DST` and `--mount type=bind,source=SRC,...` of run and create.

Podman's build takes `-v` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli import csv_fields
from cli.build_words import build_at, build_takes_next, short_option
from cli.docker_words import front_of, takes_next, verb_words
from hostvm.shares.named import engine_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostvm.shares.model import Mount


def may_name_folders(words: Sequence[str]) -> bool:
    """A cheap first look: whether any word can be one of the options above."""
    return any(
        word.startswith(("--volume", "--mount")) or (word[:1] == "-" and word[1:2] != "-" and "v" in word)
        for word in words
    )


def with_guest_paths(
    words: Sequence[str],
    mounts: Sequence[Mount],
    folder: str,
    disks: Callable[[], Sequence[str]] = tuple,
    sock: str = "",
    option: str = "",
    run: str = "docker run",
) -> list[str]:
    """The same words with each folder as the guest knows it.

    :param words: docker's, without "docker" itself.
    :param folder: the working folder, to which relative ones belong.
    :param disks: where the machine's further disks are mounted; asked only for what is not shared.
    :param sock: see `engine_path`; so are `option` and `run`.
    :raises ForwardError: a folder is not shared.
    """

    def find(source: str) -> str:
        return engine_path(source, mounts, disks, folder=folder, sock=sock, option=option, run=run)

    found = list(words)
    if (at := build_at(found)) is not None:
        _of_build(found, at, find)
        return found
    verb, start = verb_words(found)
    if verb not in ("run", "create"):
        return found
    at = start
    while at < len(found) and found[at].startswith("-") and found[at] not in ("-", "--"):
        word = found[at]
        name, equals, value = word.partition("=")
        if name in ("--volume", "--mount"):
            place = at if equals else at + 1
            if place < len(found):
                text = value if equals else found[place]
                changed = (_volume if name == "--volume" else _mount)(text, find)
                found[place] = f"{name}={changed}" if equals else changed
        elif (letters := front_of(word, "v")) is not None:
            place = at if len(word) > len(letters) else at + 1
            if place < len(found):
                text = word[len(letters) :].removeprefix("=") if place == at else found[place]
                changed = _volume(text, find)
                found[place] = letters + changed if place == at else changed
        at += 2 if takes_next(verb, word) else 1
    return found


def _of_build(found: list[str], at: int, find: Callable[[str], str]) -> None:
    """Change the folders of a build, whose options may stand behind its context too."""
    while at < len(found) and found[at] != "--":
        word = found[at]
        name, equals, _ = word.partition("=")
        front = name + equals if name == "--volume" else short_option(word, "v")
        if front is not None:
            place = at if len(word) > len(front) else at + 1
            if place < len(found):
                front = front if place == at else ""
                found[place] = front + _volume(found[place][len(front) :], find)
        at += 2 if word.startswith("-") and word != "-" and build_takes_next(word) else 1


def _volume(text: str, find: Callable[[str], str]) -> str:
    source, colon, rest = text.partition(":")
    if not colon or not _is_path(source):
        return text  # an anonymous volume, or a named one
    return f"{find(source)}:{rest}"


def _mount(text: str, find: Callable[[str], str]) -> str:
    fields = csv_fields.split(text) or []
    # Docker takes the last of several, and names and kinds in capitals.
    kinds = [field.partition("=")[2].lower() for field in fields if field.partition("=")[0].lower() == "type"]
    if kinds[-1:] != ["bind"]:
        return text
    changed = list(fields)
    for place, field in enumerate(fields):
        key, _, value = field.partition("=")
        if key.lower() in ("source", "src") and _is_path(value):
            changed[place] = f"{key}={find(value)}"
    return text if changed == fields else csv_fields.join(changed)


def _is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~"))  # as docker's client sees it: `.git` is a folder, `git` a volume
