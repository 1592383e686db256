"""Package indexes: which versions exist, what they need, what they provide."""

from __future__ import annotations

import difflib
import operator
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from images.archive.versions import Version
from images.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SIZE = re.compile(r"[0-9]{1,15}")
# name, optional :arch qualifier, optional (op version), optional [arch list] and <profile> (absent in binaries)
_RELATION = re.compile(
    r"^\s*([a-z0-9][a-z0-9+.\-]*)(?::(?P<arch>[a-z0-9\-]+))?\s*"
    r"(?:\(\s*(?P<op><<|<=|=|>=|>>)\s*(?P<version>[^\s)]+)\s*\))?\s*$"
)

_BLOCK_SHIFT = 32  # a place's high bits are a block's number
_PROVIDES = b"\nProvides:"

CLOSE_LENGTH = 5  # names that differ more in length are no misspelling
_COMPARE = {"<<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">>": operator.gt}


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative of a dependency, or one thing provided."""

    name: str
    op: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.op} {self.version})" if self.op else self.name


@dataclass(frozen=True, slots=True)
class Against:
    """One thing that a package must not be together with.

    :param verb: what the package does to it, for messages: "conflicts with" or "breaks".
    :param arch: of the other one; empty: of any.
    """

    verb: str
    relation: Relation
    arch: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.relation}"


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package of an index.

    :param depends: Pre-Depends then Depends; each a tuple of alternatives.
    :param conflicts: the field as it is, since it is asked only of packages that were chosen; so is `breaks`.
    :param size: bytes of the .deb.
    :param base: URL that `filename` is relative to.
    :param unpacked: bytes that its makers expect it to take; 0 where they say nothing.
    """

    name: str
    version: str
    arch: str
    filename: str
    size: int
    sha256: str
    base: str
    essential: bool = False
    priority: str = "optional"
    depends: tuple[tuple[Relation, ...], ...] = ()
    provides: tuple[Relation, ...] = ()
    unpacked: int = 0
    conflicts: str = ""
    breaks: str = ""

    @property
    def url(self) -> str:
        """Where the .deb lies."""
        return f"{self.base}/{self.filename}"

    def against(self) -> list[Against]:
        """What must not be there together with it: its Conflicts, then its Breaks.

        :raises MirrorError: the index has something else there.
        """
        with _readable(self.name, self.base):
            return parse_against("conflicts with", self.conflicts) + parse_against("breaks", self.breaks)

    def stands_for(self, relation: Relation) -> bool:
        """Whether it satisfies a relation by what it provides. A versioned relation needs a version."""
        return any(
            provided.name == relation.name
            and (not relation.op or (bool(provided.op) and satisfies(provided.version, relation.op, relation.version)))
            for provided in self.provides
        )


def parse_relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """Parse a dependency field.

    :raises ValueError: not a dependency.
    """
    groups = []
    for group in filter(None, (part.strip() for part in text.split(","))):
        alternatives = []
        for alternative in group.split("|"):
            match = _RELATION.match(alternative)
            if match is None:
                raise ValueError(f"not a dependency: {alternative!r}")
            alternatives.append(_relation(match))
        groups.append(tuple(alternatives))
    return tuple(groups)


def parse_against(verb: str, text: str) -> list[Against]:
    """Parse a field like Conflicts, which has no alternatives.

    :raises ValueError: not one.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RELATION.match(part)
        if match is None:
            raise ValueError(f"not a conflict: {part!r}")
        arch = match["arch"] or ""
        found.append(Against(verb, _relation(match), "" if arch == "any" else arch))
    return found


def _relation(match: re.Match[str]) -> Relation:
    return Relation(match[1], match["op"] or "", match["version"] or "")


def satisfies(version: str, op: str, wanted: str) -> bool:
    """Whether `version` stands in relation `op` to `wanted`, by dpkg's order; nothing does to what is no version."""
    try:
        return not op or _COMPARE[op](Version(version), Version(wanted))
    except ValueError:
        return False


def parse_package(stanza: str, base: str) -> Package:
    """Read one stanza of a Packages file.

    :raises ValueError: not one.
    :raises KeyError: a field is missing.
    """
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        if not line.startswith((" ", "\t")):
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    kib = fields.get("Installed-Size", "")
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        arch=fields["Architecture"],
        filename=fields["Filename"],
        size=int(fields["Size"]),
        sha256=fields["SHA256"],
        base=base,
        essential=fields.get("Essential") == "yes",
        priority=fields.get("Priority", "optional"),
        depends=parse_relations(fields.get("Pre-Depends", "")) + parse_relations(fields.get("Depends", "")),
        provides=tuple(group[0] for group in parse_relations(fields.get("Provides", ""))),
        unpacked=int(kib) << 10 if _SIZE.fullmatch(kib) else 0,
        conflicts=fields.get("Conflicts", ""),
        breaks=fields.get("Breaks", ""),
    )


@dataclass(slots=True)
class PackageIndex:
    """All packages of some suites. Stanzas are parsed when asked for: an index has 70,000, an image needs 120.

    Their text, some 60 MB, is kept packed by lz4, in blocks of about 80 stanzas.

    :param _packed: all blocks; one buffer, which the system gets back at once.
    :param _blocks: of each, where it begins and ends there, and the URL that its file names are relative to.
    :param _places: by name, where its last stanza begins: a block's number and a position in its text.
    :param _earlier: by place, that of the stanza of the same name before it.
    :param _providers: by what they provide, names of packages, a line each; one may stand several times.
    """

    _packed: bytearray = field(default_factory=bytearray)
    _blocks: list[tuple[int, int, str]] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)
    _earlier: dict[int, int] = field(default_factory=dict)
    _providers: dict[str, str] = field(default_factory=dict)
    _parsed: dict[str, Package] = field(default_factory=dict)

    def add(self, pieces: Iterable[bytes], base: str) -> None:
        """Add a Packages file, which comes in pieces, whose file names are relative to URL `base`.

        :raises MirrorError: it cannot be read.
        :raises UnicodeDecodeError: it is not UTF-8.
        """
        rest = b""
        for piece in pieces:
            rest += piece
            block, end, behind = rest.rpartition(b"\n\n")
            if end:
                self._add_block(block, base)
                rest = behind
        if rest:
            self._add_block(rest, base)

    def _add_block(self, data: bytes, base: str) -> None:
        import lz4.block

        data.decode()  # for its fault, if it is none
        first = len(self._blocks) << _BLOCK_SHIFT
        begin = len(self._packed)
        self._packed += lz4.block.compress(data)
        self._blocks.append((begin, len(self._packed), base))
        for start, body in _stanzas(data):
            name, place = _name_of(body), first + start
            if name in self._places:
                self._earlier[place] = self._places[name]
            self._places[name] = place
            found = body.find(_PROVIDES)
            if found >= 0:
                line = body[found + len(_PROVIDES) :].split(b"\n", 1)[0].decode()
                with _readable(name, base):
                    for group in parse_relations(line):
                        others = self._providers.get(group[0].name)
                        self._providers[group[0].name] = name if others is None else f"{others}\n{name}"

    def newest(self, name: str) -> Package | None:
        """The newest version of a real package.

        :raises MirrorError: what the index says of it cannot be read.
        """
        if name not in self._parsed:
            stanzas = self._stanzas(name)
            if not stanzas:
                return None
            with _readable(name, stanzas[0][1]):
                found = [parse_package(body, base) for body, base in stanzas]
                self._parsed[name] = max(found, key=lambda package: Version(package.version))
        return self._parsed[name]

    def _stanzas(self, name: str) -> list[tuple[str, str]]:
        """All of a name, as they were added, each with the URL its file name is relative to."""
        found = []
        place = self._places.get(name)
        while place is not None:
            number, start = place >> _BLOCK_SHIFT, place & ((1 << _BLOCK_SHIFT) - 1)
            body = self._block(number)[start:].split(b"\n\n", 1)[0]
            found.append((body.strip(b"\n").decode(), self._blocks[number][2]))
            place = self._earlier.get(place)
        return found[::-1]

    def _block(self, number: int) -> bytes:
        import lz4.block

        begin, end, _ = self._blocks[number]
        return bytes(lz4.block.decompress(self._packed[begin:end]))

    def offers(self, name: str) -> list[Package]:
        """Versions of a real package that a dependency may be met by, the preferred one first."""
        package = self.newest(name)
        return [] if package is None else [package]

    def providers(self, relation: Relation) -> list[Package]:
        """Packages that satisfy a relation by Provides, sorted by name. A versioned relation needs a version."""
        found = []
        names = self._providers.get(relation.name)
        for name in sorted(set(names.split("\n"))) if names is not None else ():
            package = self.newest(name)
            if package is not None and package.stands_for(relation):
                found.append(package)
        return found

    def required(self) -> list[str]:
        """Names that every Debian system has: Essential packages and those of priority required, sorted."""
        names: set[str] = set()
        for number in range(len(self._blocks)):
            block = self._block(number)
            if _is_required(block):
                names.update(_name_of(body) for _, body in _stanzas(block) if _is_required(body))
        return sorted(names)

    def close_names(self, name: str) -> list[str]:
        """Up to five existing names that look like `name`."""
        near = [
            other for other in self._places if other[:1] == name[:1] and abs(len(other) - len(name)) <= CLOSE_LENGTH
        ]
        return difflib.get_close_matches(name, near, n=5, cutoff=0.7)


def _stanzas(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Each stanza, and where it begins."""
    start = 0
    for part in block.split(b"\n\n"):
        if body := part.strip(b"\n"):
            yield start, body
        start += len(part) + 2


def _is_required(text: bytes) -> bool:
    return b"\nEssential: yes" in text or b"\nPriority: required" in text


def _name_of(stanza: bytes) -> str:
    return stanza.split(b"\n", 1)[0].removeprefix(b"Package:").decode().strip()


@contextmanager
def _readable(name: str, base: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError) as error:
        raise MirrorError(
            f"the package index of {base} cannot be read",
            f"Its entry {name[:100]!r}: {error!r}"[:300],
            "Try another mirror, e.g. `hostvm image build --mirror http://deb.debian.org/debian`",
        ) from error


def total_size(packages: Iterable[Package]) -> int:
    """Bytes to download."""
    return sum(package.size for package in packages)
