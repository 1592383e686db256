"""`KEY=VALUE` words of `hostvm set`: read, and put into machine.yaml's text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hostvm.config.kinds import VARIABLE, Choice, Keys, Text, Variables
from hostvm.config.rewrite import remove_value, set_value
from hostvm.spec import BY_KEY, read_settings, wrong_settings
from images.document import DocumentError, read_document
from images.faults import Fault, spell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostvm.config.kinds import Kind

_HELP = "see the keys and values: hostvm set --help; all of them are in docs/configuration.md"


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The machine's name, if the first word is one, and the settings."""
    if words and "=" not in words[0]:
        return words[0], list(words[1:])
    return None, list(words)


def words_settings(words: Sequence[str], origin: str) -> dict[str, Any]:
    """What `hostvm set` would make of the words, as keys of machine.yaml with their values.

    :param origin: names where the words came from, for the message.
    :raises SpecError: every word that is wrong.
    """
    return read_document(assign("", words, origin)).values or {}


def assign(text: str, words: Sequence[str], origin: str = "command line") -> str:
    """machine.yaml's text with the settings; `KEY=` gives a key its default back.

    :param origin: as for `words_settings`.
    :raises SpecError: every word that is wrong.
    """
    faults: list[Fault] = []
    for word in words:
        name, equals, value = word.partition("=")
        path = name.split(".")
        if not equals or not all(path):
            faults.append(Fault((word,), "is not KEY=VALUE"))
        elif path[0] not in BY_KEY:
            faults.append(Fault((path[0],), f"unknown key; known ones are {', '.join(BY_KEY)}"))
        elif not value:
            text = remove_value(text, path)
        else:
            try:
                text = _put(text, path, value)
            except DocumentError as fault:
                faults.append(Fault(tuple(path), f"{value} cannot be read: {fault.why}"))
    faults += _faults_of(text, {word.partition("=")[0].split(".")[0] for word in words})
    if faults:
        raise wrong_settings([f"{spell(fault.path)}: {fault.why}" for fault in faults], origin, _HELP)
    return text


def _put(text: str, path: list[str], value: str) -> str:
    plain = _plain(_kind_at(path), value)
    if len(path) == 1:
        changes, faults = read_settings({path[0]: plain})
        if not faults:  # as hostvm itself writes it: 4096MiB is 4GiB
            plain = BY_KEY[path[0]].render(changes[path[0]])
    return set_value(text, path, plain)


def _plain(kind: Kind | None, value: str) -> Any:
    """A text stays one, whatever YAML would make of it; anything else is YAML."""
    if isinstance(kind, Text | Choice):
        return value
    document = read_document(value)
    if document.faults:
        raise DocumentError(document.faults[0].why)
    return document.values


def _kind_at(path: list[str]) -> Kind | None:
    kind: Kind | None = BY_KEY[path[0]].kind
    for key in path[1:]:
        if isinstance(kind, Variables):
            kind = VARIABLE
        elif isinstance(kind, Keys):
            kind = kind.keys[key].kind if key in kind.keys else None
        else:
            return None
    return kind


def _faults_of(text: str, keys: set[str]) -> list[Fault]:
    """What is wrong with these keys in the new text; the others were there before."""
    values = read_document(text).values or {}
    return read_settings({key: value for key, value in values.items() if key in keys})[1]
