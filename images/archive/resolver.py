"""The dependency closure of some packages: what they Pre-Depend and Depend on, the same answer every time.

Circles among them are taken as they are, as apt takes them: docs/images.md says why.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from images.archive.conflicts import Clash, find_clashes
from images.archive.packages import Package, PackageIndex, Relation, satisfies
from images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

NAMED = 5
"""As many of those that need a package are named."""
CORRECT = "Correct the recipe's `packages` or `exclude_packages`, then `hostvm image build` again"
PART = (
    "Leave out what asks for one of the two, put one in the recipe's `exclude_packages`, or name the alternative that "
    "fits in `packages`; then `hostvm image build` again, or `hostvm image base` with other `--package`"
)


@dataclass(slots=True)
class _Closure:
    index: PackageIndex
    exclude: Collection[str]
    chosen: dict[str, Package] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def answers(self, relation: Relation) -> list[str]:
        """Names of what is there and satisfies it; an excluded package counts as there."""
        if relation.name in self.exclude:
            return [relation.name]
        package = self.chosen.get(relation.name)
        if package is not None and satisfies(package.version, relation.op, relation.version):
            return [package.name]
        return [provider.name for provider in self.index.providers(relation) if provider.name in self.chosen]

    def satisfied(self, relation: Relation) -> bool:
        return bool(self.answers(relation))

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

    def why(self, name: str, roots: Collection[str]) -> str:
        """Who is to blame for a package: that it was asked for, or which of those that were lead to it."""
        wanted_by: dict[str, set[str]] = {}
        for package in self.chosen.values():
            for group in package.depends:
                for answer in (answer for relation in group for answer in self.answers(relation)):
                    wanted_by.setdefault(answer, set()).add(package.name)
        seen, rest = {name}, [name]
        while rest:
            fresh = wanted_by.get(rest.pop(), set()) - seen
            seen |= fresh
            rest += fresh
        needed = sorted(seen.intersection(roots) - {name})
        more = f" and {len(needed) - NAMED} more" if len(needed) > NAMED else ""
        parts = ["asked for"] if name in roots else []
        parts += [f"needed by {', '.join(needed[:NAMED])}{more}"] if needed else []
        return " and ".join(parts) or "needed by what another package replaced"

    def told(self, clash: Clash, roots: Collection[str]) -> str:
        pair = (clash.package.name, clash.other.name)
        return f"{clash} ({'; '.join(f'{name}: {self.why(name, roots)}' for name in pair)})"


def resolve(index: PackageIndex, names: Iterable[str], exclude: Collection[str] = ()) -> list[Package]:
    """The packages that `names` need, themselves included, sorted by name.

    Recommends are not looked at: a recipe says what it wants. An excluded name counts as present. No other alternative
    is tried for packages that do not fit together.

    :raises ImageError: an unknown name (with the closest ones), a dependency that nothing offers, or else packages that
        conflict with or break each other; all at once.
    :raises MirrorError: what the index says of a package cannot be read.
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
    way_out = CORRECT
    if not closure.faults and (clashes := find_clashes(closure.chosen.values())):
        closure.faults += [closure.told(clash, {package.name for package in roots}) for clash in clashes]
        way_out = PART
    if closure.faults:
        raise ImageError("the packages do not fit together", "\n".join(closure.faults), way_out)
    return [closure.chosen[name] for name in sorted(closure.chosen)]
