"""An index of one suite in which some packages are another suite's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from images.archive.packages import PackageIndex

if TYPE_CHECKING:
    from images.archive.packages import Package, Relation


@dataclass
class PinnedIndex(PackageIndex):
    """Packages that are pinned come from their suite alone, others from the index's own where that is enough.

    :param pins: names of packages, each with the name of its suite.
    :param others: those suites' packages.
    """

    pins: dict[str, str] = field(default_factory=dict)
    others: dict[str, PackageIndex] = field(default_factory=dict)

    def newest(self, name: str) -> Package | None:
        """That of the suite the name is pinned to, else of the own one."""
        return self.others[self.pins[name]].newest(name) if name in self.pins else PackageIndex.newest(self, name)

    def offers(self, name: str) -> list[Package]:
        """The own suite's first; the others' only help where a pinned package needs more than it has."""
        own = PackageIndex.offers(self, name)
        if name in self.pins:
            return own
        return own + [package for _, index in sorted(self.others.items()) for package in index.offers(name)]

    def providers(self, relation: Relation) -> list[Package]:
        """As with packages: the own suite's, else the others'."""
        own = PackageIndex.providers(self, relation)
        return own or [package for _, index in sorted(self.others.items()) for package in index.providers(relation)]
