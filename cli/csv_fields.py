"""The fields of `--mount` and its like: one line of CSV as docker's own reader has it (Go's encoding/csv)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIELD = re.compile(r'"((?:[^"]|"")*)"|([^",\n]*)')
_QUOTED = re.compile(r'[",\r\n]')


def split(text: str) -> list[str] | None:
    """The fields; None where docker would refuse the text: a quotation mark in the midst of a field, or one alone."""
    fields = []
    at = -1
    while at < len(text):
        found = _FIELD.match(text, at + 1)
        assert found is not None, "it matches nothing, too"
        quoted, plain = found.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if text[at : at + 1] == "\n":
            break  # docker reads one line
        if text[at : at + 1] not in ("", ","):
            return None
    return fields


def join(fields: Sequence[str]) -> str:
    """A text with these fields."""
    return ",".join('"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in fields)
