"""Conflicts and Breaks among packages that were chosen, as dpkg reads them where nothing is installed before."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.archive.packages import satisfies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from images.archive.packages import Against, Package


@dataclass(frozen=True, slots=True)
class Clash:
    """Two packages that cannot be in one image.

    :param package: the one that says so.
    :param against: what it says.
    :param other: the one that it means.
    """

    package: Package
    against: Against
    other: Package

    def __str__(self) -> str:
        other = f"{self.other.name} {self.other.version}"
        # The name is the other's own, or of something that it provides.
        met = f"which {other} provides" if self.other.name != self.against.relation.name else f"and {other} is chosen"
        return f"{self.package.name} {self.package.version} {self.against}, {met}"


def find_clashes(packages: Iterable[Package]) -> list[Clash]:
    """Every pair that does not fit, once, sorted by names. A package has nothing against itself, whatever it provides.

    :raises MirrorError: what the index says of a package cannot be read.
    """
    chosen = {package.name: package for package in packages}
    providers: defaultdict[str, list[Package]] = defaultdict(list)
    for package in chosen.values():
        for name in {provided.name for provided in package.provides}:
            providers[name].append(package)
    found: dict[frozenset[str], Clash] = {}
    for _, package in sorted(chosen.items()):
        for against in package.against():
            for other in _meant(against, chosen, providers):
                if other.name != package.name:
                    found.setdefault(frozenset((package.name, other.name)), Clash(package, against, other))
    return sorted(found.values(), key=lambda clash: (clash.package.name, clash.other.name))


def _meant(
    against: Against, chosen: dict[str, Package], providers: defaultdict[str, list[Package]]
) -> Iterator[Package]:
    """Packages of that name and version, and those that provide it; another architecture's are not here at all."""
    relation = against.relation
    own = chosen.get(relation.name)
    found = [own] if own is not None and satisfies(own.version, relation.op, relation.version) else []
    found += [package for package in providers.get(relation.name, ()) if package.stands_for(relation)]
    for package in found:
        if against.arch in ("", package.arch):
            yield package
