"""Files and folders that a `docker build` names beside its context: where the guest's client finds them.

A secret's file is carried (cli/named_files.py), another context travels with the build's own (cli/build_context.py);
what a build writes, and keys, have to be in a shared folder.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cli import csv_fields
from cli.build_words import build_at, build_takes_next, short_option
from hostvm.errors import ForwardError
from hostvm.platform.words import make_folder, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OUT = "/dev/stdout"
"""A guest's client cannot open its own, which is a socket."""
_GUESTS_TOO = ("-", "/dev/null")
_PLACES = {"--cache-from": "src", "--cache-to": "dest"}
"""Caches of the build, and which field of one that is `type=local` is a folder of this computer."""
_NAMES = ("--file", "--output", "--secret", "--ssh", "--build-context", "--build-arg", "--cache-from", "--cache-to")
_LETTERS = {"f": "--file", "o": "--output"}
_CLIENT = "or install a client here: brew install docker docker-buildx, or apt install docker-cli docker-buildx"


class BuildOption(NamedTuple):
    """One of the options, wherever its value stands.

    :param at: index of the word that holds the value.
    :param front: what stands before the value in that word.
    """

    at: int
    front: str
    name: str
    value: str


class BuildWords(NamedTuple):
    """What a build names.

    :param context_at: index of its folder, URL or `-`; None without one.
    """

    options: list[BuildOption]
    context_at: int | None

    @property
    def dockerfile(self) -> BuildOption | None:
        """Where `--file` names one: the last counts."""
        return next((one for one in reversed(self.options) if one.name == "--file"), None)


def read_build(words: list[str]) -> BuildWords:
    """What `docker WORDS` names; nothing where it is no build."""
    at = build_at(words)
    options: list[BuildOption] = []
    context = None
    while at is not None and at < len(words):
        word = words[at]
        if word == "--":
            context = at + 1 if at + 1 < len(words) else context
            break
        name, front, value = _parted(word)
        if name in _NAMES:
            if value is None:
                at, front, value = at + 1, "", "".join(words[at + 1 : at + 2])
            if value:
                options.append(BuildOption(at, front, name, value))
            at += 1
        elif word.startswith("-") and word != "-":
            at += 2 if build_takes_next(word) else 1
        else:
            context = at
            at += 1
    return BuildWords(options, context)


def _parted(word: str) -> tuple[str, str, str | None]:
    """An option's name, what stands before its value, and that; None where it is in the next word."""
    for letter, name in _LETTERS.items():
        if (front := short_option(word, letter)) is not None:
            return name, front, word[len(front) :] or None
    name, equals, value = word.partition("=")
    return name, name + equals, value if equals else None


def other_contexts(words: list[str]) -> list[tuple[BuildOption, str]]:
    """The folders of this computer that `--build-context NAME=FOLDER` names."""
    named = [(one, one.value.partition("=")[2]) for one in read_build(words).options if one.name == "--build-context"]
    return [(one, path) for one, path in named if "://" not in path and os.path.isdir(path)]  # noqa: PTH112 - as typed


def secret_source(value: str, environ: Mapping[str, str]) -> tuple[str, str, bool]:
    """Of a `--secret`, what stands before its file's path once that is last; the file or variable that it is, "" where
    it has none, or a key that docker does not know and tells of; and whether that is a variable.
    """
    fields = csv_fields.split(value) or []
    keys = {field.partition("=")[0].lower(): field.partition("=")[2] for field in fields}
    if not keys.keys() <= {"type", "id", "src", "source", "env"}:
        return "", "", False
    source, variable = keys.get("src", keys.get("source", "")), keys.get("env", "")
    if keys.get("type") == "env" and not variable:
        source, variable = "", source
    if not source and not variable:
        own = keys.get("id", "")
        source, variable = ("", own) if own in environ else (own, "")
    rest = [
        field
        for field in fields
        if field.partition("=")[0].lower() not in ("src", "source", "env") and field.lower() != "type=env"
    ]
    return csv_fields.join([*rest, "src="]), variable or source, bool(variable)


def with_places(
    words: list[str], in_guest: Callable[[list[str]], bool], there: Callable[[str], str], option: str, *, carried: bool
) -> list[str]:
    """The same words with what a build writes, and keys, at their whole paths.

    :param in_guest: whether the guest has absolute paths under the same names.
    :param there: what the guest calls such a path.
    :param option: of hostvm's commands in an error's last lines, to choose the machine.
    :param carried: the build's own context is: other ones travel with it.
    :raises ForwardError: one is not shared.
    """
    changed = list(words)
    contexts = {one.at: path for one, path in other_contexts(words)}
    for one in read_build(words).options:
        fields: list[str] = []
        if one.name == "--output":
            front = "dest="
            fields, path = _output(one.value)
        elif one.name in _PLACES:
            front = f"{_PLACES[one.name]}="
            fields, path = _field(csv_fields.split(one.value) or [], _PLACES[one.name])
            path = path if any(field.strip().lower() == "type=local" for field in fields) else ""
        elif one.name == "--ssh":
            front, path = _key(one.value)
        elif one.at in contexts and not carried:
            front, path = one.value.partition("=")[0] + "=", contexts[one.at]
        else:
            continue
        if one.name == "--ssh" and path == os.environ.get("SSH_AUTH_SOCK"):
            changed[one.at] = one.front + front.removesuffix("=")  # the guest has this agent's socket elsewhere
        elif path:
            place = "-" if path == _OUT else _shared(one, path, in_guest, there, option)
            changed[one.at] = one.front + (csv_fields.join([*fields, front + place]) if fields else front + place)
    return changed


def _shared(
    one: BuildOption, path: str, in_guest: Callable[[list[str]], bool], there: Callable[[str], str], option: str
) -> str:
    whole = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    if not in_guest([whole]):
        raise _not_shared(one, whole, option)
    return there(whole)


def _output(value: str) -> tuple[list[str], str]:
    """The other fields, and the path of a file or folder that a build writes; "" where it writes none here."""
    fields = csv_fields.split(value) or []
    if len(fields) == 1 and not value.startswith("type="):
        fields = ["type=local", f"dest={value}"] if value != "-" else []
    rest, path = _field(fields, "dest")
    return rest, "" if path in _GUESTS_TOO else path


def _field(fields: list[str], key: str) -> tuple[list[str], str]:
    """The other fields, and the value of the one with that key; "" without one."""
    path, rest = "", []
    for field in fields:
        name, _, text = field.partition("=")
        if name.strip().lower() == key:
            path = text
        else:
            rest.append(field)
    return rest, path


def _key(value: str) -> tuple[str, str]:
    """`ID=` and the path; of several keys none, which docker's client in the guest tells of by itself."""
    name, equals, path = value.partition("=")
    return name + equals, "" if "," in path else path


def _not_shared(one: BuildOption, path: str, option: str) -> ForwardError:
    if one.name == "--ssh":
        way = f"ssh-add {quoted(path)}   # then: --ssh {one.value.partition('=')[0]}"
    else:
        of_file = one.name == "--output" and "type=local" not in _output(one.value)[0]
        folder = os.path.dirname(path) if of_file else path  # noqa: PTH120 - a plain word
        made = "" if os.path.isdir(folder) else f"{make_folder(folder)}\n"  # noqa: PTH112 - as above
        way = f"{made}hostvm mount add {quoted(folder)}{option}"
    return ForwardError(
        f"{path} of {one.name} is not shared with the machine at the same path",
        "the client inside the guest cannot see this computer's files",
        f"{way}\n{_CLIENT}",
    )
