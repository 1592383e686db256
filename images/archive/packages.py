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

# name, optional :arch qualifier, optional (op version), optional [arch list] and <profile> (absent in binaries)
_RELATION = re.compile(r"^\s*([a-z0-9][a-z0-9+.\-]*)(?::[a-z0-9\-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^\s)]+)\s*\))?\s*$")

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
class Package:
    """One binary package of an index.

    :param depends: Pre-Depends then Depends; each a tuple of alternatives.
    :param size: bytes of the .deb.
    :param base: URL that `filename` is relative to.
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

    @property
    def url(self) -> str:
        """Where the .deb lies."""
        return f"{self.base}/{self.filename}"


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
            alternatives.append(Relation(match[1], match[2] or "", match[3] or ""))
        groups.append(tuple(alternatives))
    return tuple(groups)


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
    )


@dataclass(slots=True)
class PackageIndex:
    """All packages of some suites. Stanzas are parsed when asked for: an index has 70,000, an image needs 120."""

    _stanzas: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _providers: dict[str, set[str]] = field(default_factory=dict)
    _parsed: dict[str, Package] = field(default_factory=dict)

    def add(self, text: str, base: str) -> None:
        """Add a Packages file whose file names are relative to URL `base`.

        :raises MirrorError: it cannot be read.
        """
        for stanza in text.split("\n\n"):
            body = stanza.strip("\n")
            if not body:
                continue
            name = body.split("\n", 1)[0].removeprefix("Package:").strip()
            self._stanzas.setdefault(name, []).append((body, base))
            start = body.find("\nProvides:")
            if start >= 0:
                line = body[start + len("\nProvides:") :].split("\n", 1)[0]
                with _readable(name, base):
                    for group in parse_relations(line):
                        self._providers.setdefault(group[0].name, set()).add(name)

    def newest(self, name: str) -> Package | None:
        """The newest version of a real package.

        :raises MirrorError: what the index says of it cannot be read.
        """
        if name not in self._parsed:
            stanzas = self._stanzas.get(name)
            if not stanzas:
                return None
            with _readable(name, stanzas[0][1]):
                found = [parse_package(body, base) for body, base in stanzas]
                self._parsed[name] = max(found, key=lambda package: Version(package.version))
        return self._parsed[name]

    def offers(self, name: str) -> list[Package]:
        """Versions of a real package that a dependency may be met by, the preferred one first."""
        package = self.newest(name)
        return [] if package is None else [package]

    def providers(self, relation: Relation) -> list[Package]:
        """Packages that satisfy a relation by Provides, sorted by name. A versioned relation needs a version."""
        found = []
        for name in sorted(self._providers.get(relation.name, ())):
            package = self.newest(name)
            if package is not None and _provides(package, relation):
                found.append(package)
        return found

    def required(self) -> list[str]:
        """Names that every Debian system has: Essential packages and those of priority required, sorted."""
        names = [
            name
            for name, stanzas in self._stanzas.items()
            if any("\nEssential: yes" in body or "\nPriority: required" in body for body, _ in stanzas)
        ]
        return sorted(names)

    def close_names(self, name: str) -> list[str]:
        """Up to five existing names that look like `name`."""
        near = [
            other for other in self._stanzas if other[:1] == name[:1] and abs(len(other) - len(name)) <= CLOSE_LENGTH
        ]
        return difflib.get_close_matches(name, near, n=5, cutoff=0.7)


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


def _provides(package: Package, relation: Relation) -> bool:
    for provided in package.provides:
        if provided.name != relation.name:
            continue
        if not relation.op or (provided.op and satisfies(provided.version, relation.op, relation.version)):
            return True
    return False


def total_size(packages: Iterable[Package]) -> int:
    """Bytes to download."""
    return sum(package.size for package in packages)
