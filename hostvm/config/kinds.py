"""Kinds of values in machine.yaml: each reads a value, says all that is wrong with it, and gives its JSON Schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hostvm.sizes import format_size, parse_size
from images.faults import SHOWN, Fault, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SIZE_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]([iI]?[bB])?\s*$"
_TIME_PATTERN = r"^\s*[0-9]{1,6}\s*[smh]\s*$"
_UNITS = {"s": 1, "m": 60, "h": 3600}


class WrongValueError(Exception):
    """A value that cannot be read, with every fault of it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    @classmethod
    def of(cls, value: object, why: str) -> WrongValueError:
        """One fault of the value as a whole; `why` reads after it."""
        return cls(Fault((), f"{shown(value)} {why}"))

    def below(self, *path: str | int) -> list[Fault]:
        """The same faults, seen from further up."""
        return [Fault((*path, *fault.path), fault.why) for fault in self.faults]


class Kind(Protocol):
    """What a value may be."""

    @property
    def words(self) -> str:
        """The same for people, for the documentation."""

    def read(self, value: object) -> Any:
        """The value as hostvm keeps it.

        :raises WrongValueError: with every fault in it.
        """

    def schema(self) -> dict[str, Any]:
        """JSON Schema; accepts whatever `read` does, apart from what depends on the computer."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number; decimal digits in a text count as one, since options and `set` bring texts.

    :param most: asked when a value is read, since it may depend on the computer.
    """

    least: int
    most: Callable[[], int]
    limit: str

    @property
    def words(self) -> str:
        return f"whole number from {self.least}, at most {self.limit}"

    def read(self, value: object) -> int:
        text = "" if isinstance(value, bool) else str(value)
        if not (text.isascii() and text.isdecimal() and len(text) < SHOWN):
            raise WrongValueError.of(value, "is not a whole number")
        if not self.least <= int(text) <= self.most():
            raise WrongValueError.of(value, f"must be from {self.least} to {self.most()}, {self.limit}")
        return int(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least}


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, written with a unit."""

    least: int
    too_little: str
    most: Callable[[], int] | None = None

    @property
    def words(self) -> str:
        return f"size with a unit (MiB, GiB, TiB), at least {format_size(self.least)}"

    def read(self, value: object) -> int:
        try:
            size = parse_size(value)
        except ValueError as fault:
            raise WrongValueError.of(value, str(fault)) from None
        if size < self.least:
            raise WrongValueError.of(value, f"{self.too_little}; the least is {format_size(self.least)}")
        if self.most is not None and size > self.most():
            raise WrongValueError.of(value, f"is more than this computer has ({format_size(self.most())})")
        return size

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": _SIZE_PATTERN}


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds, written with a unit."""

    least: int = 1

    @property
    def words(self) -> str:
        return f"time with a unit (s, m, h), at least {format_time(self.least)}"

    def read(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            raise WrongValueError.of(value, f"needs a unit, for example {value}m")
        if not isinstance(value, str) or not re.match(_TIME_PATTERN, value, re.ASCII):
            raise WrongValueError.of(value, "is not a time, for example 90s, 5m or 2h")
        seconds = int(value.strip()[:-1]) * _UNITS[value.strip()[-1]]
        if seconds < self.least:
            raise WrongValueError.of(value, f"is too short; the least is {format_time(self.least)}")
        return seconds

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": _TIME_PATTERN}


def format_time(seconds: int) -> str:
    """Whole seconds as `Time` reads them: `90s`, `5m`, `2h`."""
    unit, size = next((unit, size) for unit, size in reversed(_UNITS.items()) if seconds % size == 0)
    return f"{seconds // size}{unit}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words; they are known to completion."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        return " or ".join(f"`{choice}`" for choice in self.choices)

    def read(self, value: object) -> str:
        if value not in self.choices:
            raise WrongValueError.of(value, f"must be one of: {', '.join(self.choices)}")
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@dataclass(frozen=True, slots=True)
class Bool:
    """true or false."""

    words = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise WrongValueError.of(value, "must be true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text.

    :param check: gives the text to keep, or raises ValueError with a reason that reads after it.
    """

    check: Callable[[str], str] = str
    words: str = "text"
    hint: str = ""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            quoted = isinstance(value, int | float)
            raise WrongValueError.of(value, "must be a text" + ("; write it in quotes" if quoted else ""))
        try:
            return self.check(value)
        except ValueError as fault:
            raise WrongValueError.of(value, str(fault)) from None

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Either:
    """What a function reads that raises ValueError with a reason that reads after the value: for mixed kinds."""

    parse: Callable[[object], Any]
    words: str
    form: Mapping[str, Any]

    def read(self, value: object) -> Any:
        try:
            return self.parse(value)
        except ValueError as fault:
            raise WrongValueError.of(value, str(fault)) from None

    def schema(self) -> dict[str, Any]:
        return dict(self.form)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose entries are all of one kind."""

    kind: Kind
    noun: str

    @property
    def words(self) -> str:
        return f"list of {self.noun}"

    def read(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise WrongValueError.of(value, f"must be a list of {self.noun}")
        found, faults = [], []
        for number, entry in enumerate(value):
            try:
                found.append(self.kind.read(entry))
            except WrongValueError as wrong:
                faults += wrong.below(number)
        if faults:
            raise WrongValueError(*faults)
        return found

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.kind.schema()}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping.

    :param default: as it would be written; only told, whoever reads the mapping knows it too.
    """

    kind: Kind
    help: str
    required: bool = False
    default: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping of known keys; the others are refused with the list of the known ones.

    :param make: what becomes of the keys that were read; raises ValueError with a reason that reads after the path.
    """

    keys: Mapping[str, Key]
    make: Callable[[dict[str, Any]], Any] = dict
    words: str = "mapping, see below"

    def read(self, value: object) -> Any:
        if not isinstance(value, dict):
            raise WrongValueError.of(value, f"must be a mapping with: {', '.join(self.keys)}")
        found: dict[str, Any] = {}
        faults = [Fault((key,), "is missing") for key, one in self.keys.items() if one.required and key not in value]
        for key, entry in value.items():
            if key not in self.keys:
                faults.append(Fault((str(key),), f"unknown key; known ones are {', '.join(self.keys)}"))
                continue
            try:
                found[str(key)] = self.keys[key].kind.read(entry)
            except WrongValueError as wrong:
                faults += wrong.below(str(key))
        if faults:
            raise WrongValueError(*faults)
        try:
            return self.make(found)
        except ValueError as fault:
            raise WrongValueError(Fault((), str(fault))) from None

    def schema(self) -> dict[str, Any]:
        form: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: {**one.kind.schema(), "description": plain_words(one.help)} for key, one in self.keys.items()
            },
        }
        if required := [key for key, one in self.keys.items() if one.required]:
            form["required"] = required
        return form


@dataclass(frozen=True, slots=True)
class Free:
    """A mapping whose content is another program's business."""

    why: str
    words: str

    def read(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WrongValueError.of(value, self.why)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


def _read_pairs(
    value: object, words: str, read_name: Callable[[object], str], read_item: Callable[[object], str]
) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongValueError.of(value, f"must be a {words}")
    found, faults = {}, []
    for name, item in value.items():
        try:
            found[read_name(name)] = read_item(item)
        except WrongValueError as wrong:
            faults += wrong.below(str(name))
    if faults:
        raise WrongValueError(*faults)
    return found


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping of names to texts, both of some form."""

    name: Text
    item: Text
    things: str

    @property
    def words(self) -> str:
        return f"mapping of {self.name.words} to {self.things}"

    def read(self, value: object) -> dict[str, str]:
        return _read_pairs(value, self.words, self.name.read, self.item.read)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.item.schema()}


_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


@dataclass(frozen=True, slots=True)
class Variables:
    """Names and texts, as an environment has them."""

    words = "mapping of names to texts"

    def read(self, value: object) -> dict[str, str]:
        return _read_pairs(value, self.words, _variable_name, VARIABLE.read)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "propertyNames": {"pattern": _VARIABLE}, "additionalProperties": VARIABLE.schema()}


def _variable_name(name: object) -> str:
    if not re.fullmatch(_VARIABLE, str(name)):
        raise WrongValueError(Fault((), "is no name of a variable"))
    return str(name)


def _no_line_end(text: str) -> str:
    if any(letter in text for letter in "\n\r\0"):
        raise ValueError("has a line end")
    return text


VARIABLE = Text(_no_line_end)
"""A variable's value."""


def plain_words(text: str) -> str:
    """A text of the documentation without its marks, for an editor's hints."""
    return text.replace("`", "")
