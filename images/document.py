"""The text of machine.yaml, or of a recipe, as plain values, with the line of each and every fault of its form."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from images.faults import Fault, shown

if TYPE_CHECKING:
    from images.faults import Path

_STANDARD = "tag:yaml.org,2002:"
_MERGE = f"{_STANDARD}merge"
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_NODES_MOST = 20_000
_TEXT_MOST = 1 << 20
_BITS_MOST = 64  # of a whole number


class DocumentError(Exception):
    """A text that is no YAML. `line` counts from 1; None when the fault has no place."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why, line)
        self.why = why
        self.line = line

    def __str__(self) -> str:
        return self.why if self.line is None else f"line {self.line}: {self.why}"


@dataclass(slots=True)
class Document:
    """What a text holds.

    :param values: of None, bool, int, float, str, list and dict with str keys; None where a fault is.
    :param lines: of every path, from 1.
    :param root: the YAML nodes, for edits.
    """

    values: Any
    root: yaml.Node | None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of a path, or of what it lies in."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path)


def read_document(text: str) -> Document:
    """Read a text; nothing in it can run, repeat itself without end, or grow beyond its size.

    :raises DocumentError: it is no YAML at all.
    """
    if len(text) > _TEXT_MOST:
        raise DocumentError("it is longer than 1 MiB")
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        why = ", ".join(word for word in (fault.context, fault.problem) if word)
        raise DocumentError(why or str(fault), mark.line + 1 if mark else None) from None
    except yaml.YAMLError as fault:
        raise DocumentError(" ".join(str(fault).split())) from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    document = Document(None, root)
    if root is not None:
        try:
            document.values = _Reader(document).plain(root, ())
        except RecursionError:
            raise DocumentError("it is nested too deeply") from None
    return document


def _compose(text: str) -> yaml.Node | None:
    """The text's nodes: by libyaml, 20 times as fast and with the same marks; by PyYAML where its words are needed."""
    try:
        return yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeError):
        return yaml.compose(text, yaml.SafeLoader)


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: list[yaml.Node] = []
        self._left = _NODES_MOST

    def plain(self, node: yaml.Node, path: Path) -> Any:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        self._left -= 1
        if self._left < 0:
            raise DocumentError("it holds too many values")
        if any(node is one for one in self._open):
            return self._wrong(path, "contains itself")
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.plain(entry, (*path, number)) for number, entry in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.lines.setdefault((*path, "?"), key_node.start_mark.line + 1)
                self._wrong((*path, "?"), "a key must be a word")
                continue
            if key_node.tag == _MERGE and not isinstance(value_node, yaml.ScalarNode):
                self._document.lines.setdefault((*path, "<<"), key_node.start_mark.line + 1)
                self._wrong((*path, "<<"), "merges are not read; write out what is meant, or KEY: *NAME")
                continue
            key = str(key_node.value)  # as written: `on:` is no truth value here
            place = (*path, key)
            if key in found:
                first = self._document.lines[place]
                self._wrong(path, f"has {key} twice, in line {first} and in line {key_node.start_mark.line + 1}")
                continue
            self._document.lines[place] = key_node.start_mark.line + 1
            found[key] = self.plain(value_node, place)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        tag = node.tag.removeprefix(_STANDARD)
        try:
            if tag in ("str", "timestamp", "value", "merge"):
                return self._text(node.value, path)
            if tag in ("int", "float") and ":" in node.value:
                return str(node.value)  # 1:30 is 90 to YAML 1.1 alone
            if tag in ("null", "bool", "int", "float"):
                value = getattr(self._scalars, f"construct_yaml_{tag}")(node)
                endless = isinstance(value, float) and not math.isfinite(value)
                why = _two_ways(node.value)
                if endless or (isinstance(value, int) and value.bit_length() > _BITS_MOST):
                    why = f"{shown(node.value)} is no number that can be used"
                return self._wrong(path, why) if why else value
        except (ValueError, KeyError, IndexError, OverflowError):
            return self._wrong(path, f"{shown(node.value)} is no {tag}")
        return self._wrong(path, f"has the tag {node.tag}, which means nothing here")

    def _text(self, text: str, path: Path) -> str | None:
        """A text that can be written as bytes; programs that write JSON split what is beyond 16 bits into halves."""
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            try:
                return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._wrong(path, "holds half a character")
                return None
        return text

    def _wrong(self, path: Path, why: str) -> None:
        self._document.faults.append(Fault(path, why))


def _two_ways(text: str) -> str:
    """What is wrong with a number that is octal to YAML 1.1, and decimal to YAML 1.2 and people; "" with others."""
    digits = text.replace("_", "")
    if not _OCTAL.fullmatch(text) or int(digits, 8) == int(digits):
        return ""
    both = f"{int(digits, 8)} or {int(digits)}"
    return f"{shown(text)} is {both}, as one reads it; write it without the 0 in front, or in quotes"
