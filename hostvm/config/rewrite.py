"""Changes of single keys in machine.yaml's text; everything else, a person's comments too, stays as it is."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml

from hostvm.errors import SpecError
from images.document import DocumentError, read_document

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDLESS = 1 << 30
_BOM = "\ufeff"
"""In front of texts that some editors of Windows save; YAML's marks do not count it."""


def set_value(text: str, path: Sequence[str], value: object) -> str:
    """The text with `value`, of plain values, at `path`; mappings on the way are made.

    Comments inside a value that is replaced as a whole go with it. A text of an unusual form (an alias in the way, one
    big `{}`) is written anew, without its comments.

    :raises SpecError: something on the way is no mapping, or the text cannot be read.
    """
    bom, text = _without_bom(text)
    root, before = _read(text)
    wanted = _with(before, path, value)
    return bom + _checked(_put(text, root, path, value, wanted), wanted)


def remove_value(text: str, path: Sequence[str]) -> str:
    """The text without what is at `path`; the same text when nothing is there.

    :raises SpecError: as `set_value`.
    """
    bom, text = _without_bom(text)
    root, before = _read(text)
    if not _holds(before, path):
        return bom + text
    wanted = _without(before, path)
    if len(path) > 1:
        return bom + _checked(_put(text, root, path[:1], wanted[path[0]], wanted), wanted)
    return bom + _checked(_cut(text, root, path[0]), wanted)


def _without_bom(text: str) -> tuple[str, str]:
    return (_BOM, text.removeprefix(_BOM)) if text.startswith(_BOM) else ("", text)


def _read(text: str) -> tuple[yaml.Node | None, dict[str, Any]]:
    try:
        document = read_document(text)
    except DocumentError as fault:
        raise SpecError("machine.yaml cannot be read", str(fault), "mend it with: hostvm edit") from None
    if not isinstance(document.values, dict | None) or document.faults:
        raise SpecError("machine.yaml is not sound", None, "mend it with: hostvm edit")
    return document.root, document.values or {}


def _with(values: dict[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    wanted = deepcopy(values)
    inner = wanted
    for number, key in enumerate(path[:-1], 1):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            raise SpecError(
                f"{'.'.join(path)} cannot be set", f"{'.'.join(path[:number])} is no mapping", "set it as a whole"
            )
    inner[path[-1]] = value
    return wanted


def _holds(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _without(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    wanted = deepcopy(values)
    inner = wanted
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return wanted


def _checked(text: str | None, wanted: dict[str, Any]) -> str:
    """The changed text if it says what was meant; else the same written anew."""
    try:
        if text is not None and (read_document(text).values or {}) == wanted:
            return text
    except DocumentError:
        pass
    return yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)


def _put(text: str, root: yaml.Node | None, path: Sequence[str], value: object, wanted: dict[str, Any]) -> str | None:
    found = _find(root, path)
    if (
        found is not None
        and _is_inline(found[1])
        and (len(path) > 1 or not isinstance(value, dict | list) or not value)
    ):
        start, end = found[1].start_mark.index, found[1].end_mark.index
        return text[:start] + ("" if end > start else " ") + _inline(value) + text[end:]
    block = yaml.safe_dump({path[0]: wanted[path[0]]}, sort_keys=False, allow_unicode=True)
    top = _find(root, path[:1])
    if top is None:
        return text + ("" if text.endswith("\n") or not text else "\n") + block
    before, after = _around(text, *top)
    return before + block + after


def _cut(text: str, root: yaml.Node | None, key: str) -> str | None:
    top = _find(root, [key])
    return "".join(_around(text, *top)) if top is not None else None


def _find(root: yaml.Node | None, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of the last key and its value."""
    found: tuple[yaml.Node, yaml.Node] | None = None
    node = root
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            return None
        node = found[1]
    return found


def _is_inline(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return False
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        return False
    return bool(node.start_mark.line == node.end_mark.line)


def _inline(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=_ENDLESS)
    return text.removesuffix("...\n").rstrip("\n")


def _around(text: str, key: yaml.Node, value: yaml.Node) -> tuple[str, str]:
    """What stands before a key's lines, and behind them."""
    lines = text.splitlines(keepends=True)
    first, last = key.start_mark.line, max(key.end_mark.line, _last_line(value))
    while last > first and not lines[last].strip():  # a block text takes the empty lines behind it for its own
        last -= 1
    return "".join(lines[:first]), "".join(lines[last + 1 :])


def _last_line(node: yaml.Node) -> int:
    """The last line of its content: a block's own end mark lies behind the comments that follow it."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return max(_last_line(part) for pair in node.value for part in pair)
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return max(_last_line(part) for part in node.value)
    # A block text ends where the next line begins.
    behind = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") and node.end_mark.column == 0
    return int(node.end_mark.line) - int(behind)
