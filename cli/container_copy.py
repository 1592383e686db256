"""`docker cp` where no client of this computer does it: the guest's would look for its files in the guest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from cli.docker_words import command_at
from cli.printer import tell
from hostvm.agent.client import open_engine
from runtime.docker.api import EngineApi, EngineApiError
from runtime.docker.copy import copy_in, copy_out
from runtime.docker.copy_names import CopyError, split_place

if TYPE_CHECKING:
    from pathlib import Path

_SWITCHES = {"a": "archive", "L": "follow-link", "q": "quiet"}
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
"""As docker's client reads them (Go's strconv.ParseBool)."""
_KILO = 1000


class Copy(NamedTuple):
    """One copy: `container` to here, or from here into it.

    :param into: whether it goes into the container.
    :param here: the path of this computer, or "-".
    """

    container: str
    path: str
    here: str
    into: bool
    options: frozenset[str]


def find_copy(words: list[str]) -> Copy | None:
    """The copy in `docker WORDS`; None when it is none, or one that docker's client has something to say about."""
    words = words[command_at(words) :]
    start = 2 if words[:2] == ["container", "cp"] else 1 if words[:1] == ["cp"] else 0
    read = _read(words[start:]) if start else None
    if read is None:
        return None
    options, places = read
    if len(places) != 2 or not all(places):  # noqa: PLR2004 - from and to
        return None
    (source, source_path), (target, target_path) = map(split_place, places)
    if bool(source) == bool(target):
        return None
    if target:
        return Copy(target, target_path, source_path, True, options)  # noqa: FBT003 - a field
    return Copy(source, source_path, target_path, False, options)  # noqa: FBT003 - a field


def _read(words: list[str]) -> tuple[frozenset[str], list[str]] | None:
    """Options and places; None for an option that is not known here."""
    options: set[str] = set()
    places: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            places += words[at + 1 :]
            break
        if not word.startswith("-") or word == "-":
            places.append(word)
            continue
        spelled, equals, value = word.partition("=")
        named = [spelled[2:]] if word.startswith("--") else [_SWITCHES.get(letter, "") for letter in spelled[1:]]
        if not named or not set(named) <= set(_SWITCHES.values()) or (equals and value not in _TRUE + _FALSE):
            return None
        options.update(named)
        if equals and value in _FALSE:
            options.discard(named[-1])  # of `-aL=false` the last one
    return frozenset(options), places


def run_copy(run_dir: Path, machine: str, copy: Copy) -> int:
    """Make the copy; says what docker's client says, and gives its exit status.

    :raises EngineApiError: the engine cannot be reached.
    """
    api = EngineApi(lambda: open_engine(run_dir), machine)
    follow = "follow-link" in copy.options
    try:
        if copy.into:
            archive = "archive" in copy.options
            size = copy_in(api, copy.here, copy.container, copy.path, archive=archive, follow=follow)
        else:
            size = copy_out(api, copy.container, copy.path, copy.here, sys.stdout.buffer, follow=follow)
            sys.stdout.flush()
    except EngineApiError as fault:
        if not fault.status:
            raise
        return _fail(f"Error response from daemon: {fault.details}")
    except CopyError as fault:
        return _fail(str(fault))
    except BrokenPipeError:
        raise
    except OSError as fault:
        return _fail(f"{fault.filename or copy.here}: {fault.strerror or fault}")
    if copy.here != "-" and "quiet" not in copy.options and sys.stdout.isatty():
        to = f"{copy.container}:{copy.path}" if copy.into else copy.here
        tell(f"Successfully copied {human(size)} to {to}")
    return 0


def human(size: float) -> str:
    """Bytes as docker's client writes them: decimal, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{size:.3g}{unit}"
        size /= _KILO
    return f"{size:.3g}TB"


def _fail(text: str) -> int:
    tell(text)
    return 1
