"""The dependency closure of some packages: Pre-Depends and Depends only, the same answer every time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from images.archive.packages import Package, PackageIndex, Relation, satisfies
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


@dataclass(slots=True)
class _Closure:
    index: PackageIndex
    exclude: Collection[str]
    chosen: dict[str, Package] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def satisfied(self, relation: Relation) -> bool:
        if relation.name in self.exclude:
            return True
        package = self.chosen.get(relation.name)
        if package is not None and satisfies(package.version, relation.op, relation.version):
            return True
        return any(provider.name in self.chosen for provider in self.index.providers(relation))

    def candidate(self, relation: Relation) -> Package | None:
        for package in self.index.offers(relation.name):
            if satisfies(package.version, relation.op, relation.version):
                return package
        # required before optional, then by name: among equals the order must not depend on the index's order
        found = [provider for provider in self.index.providers(relation) if provider.name not in self.exclude]
        return min(found, key=lambda p: (p.priority != "required", p.name), default=None)

    def choose(self, group: tuple[Relation, ...], wanted_by: str) -> Package | None:
        if any(self.satisfied(relation) for relation in group):
            return None
        for relation in group:
            package = self.candidate(relation)
            if package is not None:
                return package
        self.faults.append(f"{wanted_by} needs {' | '.join(map(str, group))}, which nothing offers")
        return None

    def expand(self, roots: list[Package]) -> None:
        # Wanted packages are chosen first as a whole, so that "a | b" is met by a wanted b and does not pull in a.
        self.chosen.update((package.name, package) for package in roots)
        queue = deque(roots)
        while queue:
            current = queue.popleft()
            for group in current.depends:
                found = self.choose(group, current.name)
                if found is not None:
                    self.chosen[found.name] = found
                    queue.append(found)

    def check(self) -> None:
        """A package of another suite may have taken the place of one that others were content with."""
        for package in self.chosen.values():
            for group in package.depends:
                if not any(self.satisfied(relation) for relation in group):
                    wanted = " | ".join(map(str, group))
                    self.faults.append(
                        f"{package.name} {package.version} needs {wanted}, which another package replaced"
                    )


def resolve(index: PackageIndex, names: Iterable[str], exclude: Collection[str] = ()) -> list[Package]:
    """The packages that `names` need, themselves included, sorted by name.

    Conflicts, Breaks and Recommends are not looked at: within one suite the newest versions agree, and a recipe
    says what it wants. An excluded name counts as present.

    :raises ImageError: an unknown name (with the closest ones) or a dependency that nothing offers; all at once.
    """
    closure = _Closure(index, exclude)
    roots = []
    for name in names:
        package = index.newest(name)
        if package is None:
            close = index.close_names(name)
            closure.faults.append(f"{name}: no such package" + (f"; close: {', '.join(close)}" if close else ""))
        elif name in exclude:
            closure.faults.append(f"{name}: both wanted and excluded")
        else:
            roots.append(package)
    closure.expand(roots)
    if not closure.faults:
        closure.check()
    if closure.faults:
        raise ImageError(
            "the packages do not fit together",
            "\n".join(closure.faults),
            "Correct the recipe's `packages` or `exclude_packages`, then `hostvm image build` again",
        )
    return [closure.chosen[name] for name in sorted(closure.chosen)]
