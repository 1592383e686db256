"""Facts out of a JSON file, held against the record that they are to become: every key is there, and of its kind."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kinds = dict[str, tuple[str, "Callable[[Any], bool]"]]
"""By a field's type, as it is written: what such a value is called, and whether something is one."""


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, which true and false are not."""
    return type(value) is int


def is_list(value: Any, *kinds: type) -> bool:
    """Whether it is a list of nothing but these."""
    return isinstance(value, list) and all(isinstance(one, kinds) for one in value)


def is_table(value: Any, holds: Callable[[Any], bool] = lambda _: True) -> bool:
    """Whether it is a table, whose keys JSON makes texts, of nothing but such values."""
    return isinstance(value, dict) and all(holds(one) for one in value.values())


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(is_whole(one) for one in value)


KINDS: Kinds = {
    "str": ("a text", is_text),
    "int": ("a whole number", is_whole),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "list[str]": ("a list of texts", lambda value: is_list(value, str)),
    "list[int]": ("a list of whole numbers", _is_numbers),
    "dict[str, str]": ("a table of texts", lambda value: is_table(value, is_text)),
    "dict[str, list[int]]": ("a table of lists of whole numbers", lambda value: is_table(value, _is_numbers)),
    "dict[str, Any]": ("a table", is_table),
    "dict[str, Any] | None": ("a table", lambda value: value is None or is_table(value)),
}


def faults(data: Mapping[str, Any], record: type[Any], kinds: Kinds = KINDS) -> list[str]:
    """Every key of a dataclass that is missing, or holds what it cannot.

    :param kinds: those of its fields.
    """
    found = []
    for one in fields(record):
        kind, holds = kinds[str(one.type)]
        if one.name not in data:
            if one.default is MISSING and one.default_factory is MISSING:
                found.append(f"{one.name} is missing")
        elif not holds(data[one.name]):
            found.append(f"{one.name}: {json.dumps(data[one.name])[:100]} is not {kind}")
    return found
