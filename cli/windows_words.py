r"""Paths in docker's words on Windows, said as the guest knows them.

Two readers: the guest's own client, which must be told of every path in the guest's spelling, and a client on this
computer, which reads files itself, so that only what the engine opens (`-v`, `--mount`) is changed. Pure; imported
on Windows only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli import csv_fields
from cli.build_words import BUILD_SWITCHES
from cli.docker_words import GLOBAL_WITH_VALUE, GROUPS, LONG_SWITCHES, SHORT_WITH_VALUE
from cli.git_bash import bash_root, undo_word
from hostvm.errors import ForwardError
from hostvm.platform.windows_paths import cut_source, guest_path, has_drive, is_relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_RUN = {
    **dict.fromkeys(("-v", "--volume"), "volume"),
    "--mount": "mount",
    **dict.fromkeys(("-w", "--workdir"), "place"),
    **dict.fromkeys(("--env-file", "--label-file", "--cidfile"), "file"),
    "--security-opt": "pair",
}
_COMPOSE = dict.fromkeys(("-f", "--file", "--env-file", "--project-directory"), "file")
_BUILD = {
    **dict.fromkeys(("-f", "--file", "--iidfile", "--metadata-file"), "file"),
    **dict.fromkeys(("--build-context", "--ssh"), "pair"),
    **dict.fromkeys(("-o", "--output", "--secret", "--cache-from", "--cache-to"), "fields"),
    "": "file",
}
_IN, _OUT = dict.fromkeys(("-i", "--input"), "file"), dict.fromkeys(("-o", "--output"), "file")
_PROGRAMS = ("run", "create", "exec")
_VERBS: dict[str, dict[str, str]] = {
    **dict.fromkeys(_PROGRAMS, _RUN),
    **dict.fromkeys(("build", "b"), _BUILD),
    "bake": dict.fromkeys(("-f", "--file"), "file"),
    "cp": {"": "copy"},
    "load": _IN,
    **dict.fromkeys(("save", "export"), _OUT),
    "import": {"": "copy"},
    "deploy": dict.fromkeys(("-c", "--compose-file"), "file"),
    "secret create": {"": "file"},
    "config create": {"": "file"},
    "volume create": dict.fromkeys(("-o", "--opt"), "pair"),
    "service create": {"--mount": "mount", **dict.fromkeys(("-w", "--workdir"), "place")},
}
_TWO_WORDS = frozenset({*GROUPS, "buildx", "builder", "stack", "secret", "config", "service"})
_ENGINE_READS = frozenset({"volume", "mount", "place"})
_NO_VALUE = LONG_SWITCHES.union(
    BUILD_SWITCHES,
    ("--archive", "--follow-link", "--dry-run", "--all-resources", "--compatibility", "--print", "--verbose"),
)
_BUILD_LETTERS = frozenset("tfo")
_PATH_FIELDS = frozenset({"src", "source", "dest", "dst"})


def for_guest(words: list[str], folder: str, environ: Mapping[str, str]) -> list[str]:
    """Docker's words for the client in the guest.

    :param folder: this process's, as Windows spells it.
    :raises ForwardError: a path cannot be meant for the guest: a network folder, a volume without a target.
    """
    return _rewrite(words, folder, environ, lambda _: True)


def for_host_client(words: list[str], folder: str, environ: Mapping[str, str]) -> list[str]:
    """Docker's words for a client on this computer, which passes bind mounts on to the engine unread.

    :raises ForwardError: as `for_guest`.
    """
    return _rewrite(words, folder, environ, lambda kind: kind in _ENGINE_READS)


def _rewrite(words: list[str], folder: str, environ: Mapping[str, str], wanted: Callable[[str], bool]) -> list[str]:
    root = bash_root(environ)
    changed = [undo_word(word, root) for word in words] if root else list(words)
    for kind, at, front in _places(changed):
        if wanted(kind):
            value = changed[at][len(front) :]
            changed[at] = front + _CHANGES[kind](value, folder)
    return changed


# ---- where paths stand


def _places(words: list[str]) -> Iterator[tuple[str, int, str]]:
    """Kind of path, index of its word, and what stands before it in that word (`--file=`, `-v`)."""
    at, verb = 0, ""
    kinds = _COMPOSE if words[:1] == ["compose"] else {}
    program = plain = False
    while at < len(words):
        word = words[at]
        if word == "--" and not plain:
            plain = True  # no options follow
        elif word.startswith("-") and word != "-" and not plain:
            option, at, front = _option(words, at, verb)
            if option in kinds and at < len(words):
                yield kinds[option], at, front
        elif verb in _TWO_WORDS or not verb:
            verb = f"{verb} {word}".strip()
            kinds = _COMPOSE if verb == "compose" else _kinds(verb)
            program = verb.rpartition(" ")[2] in _PROGRAMS and kinds != {"": "file"}
        elif program:
            return  # the image or container: what follows is the program's
        elif "" in kinds:
            yield kinds[""], at, ""
        at += 1


def _kinds(verb: str) -> dict[str, str]:
    return _VERBS.get(verb) or _VERBS.get(verb.rpartition(" ")[2], {})


def _option(words: list[str], at: int, verb: str) -> tuple[str, int, str]:
    """The option's name, the index of the word that holds its value, and what stands before the value there."""
    word = words[at]
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        if equals:
            return name, at, f"{name}="
        # `--pull` of a build has no value, that of `run` has.
        switches = LONG_SWITCHES if verb.rpartition(" ")[2] in _PROGRAMS else _NO_VALUE
        return name, at if name in switches else at + 1, ""
    build = verb.endswith(("build", " b")) or verb == "b"
    letters = _BUILD_LETTERS if build else _letters(verb)
    for place, letter in enumerate(word[1:], 1):
        if letter in letters:
            if place == len(word) - 1:
                return f"-{letter}", at + 1, ""
            return f"-{letter}", at, word[: place + 1] + ("=" if word[place + 1] == "=" else "")
    return word[:2], at, ""


def _letters(verb: str) -> frozenset[str]:
    if verb.rpartition(" ")[2] in _PROGRAMS and verb != "volume create":
        return SHORT_WITH_VALUE
    if verb in ("", "compose"):
        return frozenset(name[1] for name in GLOBAL_WITH_VALUE if len(name) == 2)  # noqa: PLR2004 - "-f"
    return frozenset("cfio")


# ---- what becomes of them


def _volume(value: str, folder: str) -> str:
    """`SOURCE:TARGET:OPTIONS` of `-v`."""
    source, rest = cut_source(value)
    if rest is None:
        if has_drive(source) and ":" in source:
            raise ForwardError(
                f"-v {value} says which folder of this computer, but not where in the container",
                "a drive's letter belongs to the path",
                f"name the place too, for example: -v {value}:{guest_path(value, folder)}",
            )
        return value
    if has_drive(source) or is_relative(source):
        source = guest_path(source, folder)
    target, options = cut_source(rest)
    if has_drive(target) and ":" in target:
        rest = guest_path(target, folder) + ("" if options is None else f":{options}")
    return f"{source}:{rest}"


def _mount(value: str, folder: str) -> str:
    """`type=bind,source=...,target=...` of `--mount`: one line of CSV, as docker reads it."""
    fields = csv_fields.split(value)
    if fields is None:
        return value  # docker says what is wrong with it
    kind = next((field.partition("=")[2] for field in fields if field.lower().startswith("type=")), "volume")
    changed = []
    for field in fields:
        name, equals, path = field.partition("=")
        if name.lower() in ("source", "src"):
            path = guest_path(path, folder) if kind.lower() == "bind" else path
        elif name.lower() in ("target", "dst", "destination"):
            path = _place(path, folder)
        elif name.lower() == "volume-opt" and path.startswith("device="):
            path = _pair(path, folder)
        changed.append(f"{name}{equals}{path}")
    return csv_fields.join(changed)


def _fields(value: str, folder: str) -> str:
    """`type=local,dest=...` of `--output`, `--secret` and the caches; `--output FOLDER` too."""
    fields = csv_fields.split(value)
    if fields is None:
        return value
    if len(fields) == 1 and "=" not in value:
        return _file(value, folder)
    changed = []
    for field in fields:
        name, equals, path = field.partition("=")
        changed.append(name + equals + (_file(path, folder) if name.lower() in _PATH_FIELDS else path))
    return csv_fields.join(changed)


def _pair(value: str, folder: str) -> str:
    """`NAME=PATH`."""
    name, equals, path = value.partition("=")
    return name + equals + _file(path, folder)


def _copy(value: str, folder: str) -> str:
    """A side of `docker cp`: a path here, or `CONTAINER:PATH`; one letter before the colon is a drive."""
    if ":" in value and not has_drive(value):
        return value
    return _file(value, folder)


def _file(value: str, folder: str) -> str:
    if value == "-" or "://" in value or value.startswith("git@"):
        return value
    if has_drive(value):
        return guest_path(value, folder)
    return value.replace("\\", "/")


def _place(value: str, folder: str) -> str:
    """A container's path; only a drive's letter in it must have come from this computer."""
    return guest_path(value, folder) if ":" in value and has_drive(value) else value


_CHANGES: dict[str, Callable[[str, str], str]] = {
    "volume": _volume,
    "mount": _mount,
    "place": _place,
    "file": _file,
    "pair": _pair,
    "fields": _fields,
    "copy": _copy,
}
