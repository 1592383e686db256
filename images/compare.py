"""What differs between two images, and between an image and the archive as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from images.archive import DEFAULT_MIRROR, Fetcher, open_archive, suites_of, with_fresh_index
from images.archive.versions import Version
from images.disk import work_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.archive import Archive
    from images.progress import Progress

POCKETS = ("security",)


@dataclass(frozen=True, slots=True)
class Difference:
    """From one image to another.

    :param changed: name, version before, version after; the same version with other bytes is listed too.
    :param facts: what else differs of the manifest: key, before, after.
    """

    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    changed: tuple[tuple[str, str, str], ...]
    facts: tuple[tuple[str, str, str], ...]
    size: tuple[int, int]

    @property
    def is_empty(self) -> bool:
        """Whether they have the same packages and facts."""
        return not (self.added or self.removed or self.changed or self.facts)


@dataclass(frozen=True, slots=True)
class Outdated:
    """A package of an image that the archive has a newer version of."""

    name: str
    version: str
    newest: str
    security: bool


FACTS = ("name", "arch", "suite", "suites", "kernel_release", "cmdline", "cmdline_tcg", "recipe", "packed_by")


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """Compare two manifests; what a recipe added of other makers counts as a package whose version is its sha256."""
    old, new = _parts(before), _parts(after)
    return Difference(
        added=tuple(new[key][:2] for key in sorted(new.keys() - old.keys())),
        removed=tuple(old[key][:2] for key in sorted(old.keys() - new.keys())),
        changed=tuple((*old[key][:2], new[key][1]) for key in sorted(old.keys() & new.keys()) if old[key] != new[key]),
        facts=tuple((key, _show(before, key), _show(after, key)) for key in FACTS if before.get(key) != after.get(key)),
        size=(_size(before), _size(after)),
    )


def outdated(
    manifest: Mapping[str, Any],
    mirror: str | None,
    cache: Path,
    progress: Progress,
    *,
    pockets: Sequence[str] = POCKETS,
    keys: Sequence[Cert] | None = None,
    fetcher: Fetcher | None = None,
) -> list[Outdated]:
    """Packages of an image that are newer in the archive now, by name. Only the indexes are fetched.

    When the mirror is updated meanwhile, it is asked once more.

    :raises HostvmError: see `open_archive`.
    """
    suites = suites_of(manifest["suite"], mirror or DEFAULT_MIRROR, pockets)
    pins = manifest.get("suites", {})
    others = {name: suites_of(name, mirror or DEFAULT_MIRROR, pockets) for name in pins.values()}
    names = frozenset(_packages(manifest))
    source = fetcher or Fetcher(cache, note=progress.note)

    def read() -> Archive:
        return open_archive(suites, manifest["arch"], source, progress, keys=keys, only=names, pins=pins, others=others)

    with work_lock(source.root, progress):  # or a prune takes the indexes away before they are read
        archive = with_fresh_index(read, progress)
    security = {suite.url for suite in suites if suite.name.endswith("-security")}
    found = []
    for name, package in sorted(_packages(manifest).items()):
        newest = archive.index.newest(name)
        if newest is not None and Version(newest.version) > Version(package["version"]):
            found.append(Outdated(name, package["version"], newest.version, newest.base in security))
    return found


def _packages(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {package["name"]: package for package in manifest["packages"]}


def _parts(manifest: Mapping[str, Any]) -> dict[tuple[str, str, int], tuple[str, str, str]]:
    """Name, version and sha256 of each package and download.

    The key tells the kinds apart, and downloads that have the same file name.
    """
    found = {(name, "package", 0): (name, one["version"], one["sha256"]) for name, one in _packages(manifest).items()}
    for one in manifest.get("downloads", []):
        name, sha256 = one["name"], one["sha256"]
        number = sum(key[:2] == (name, "download") for key in found)
        found[name, "download", number] = (name, f"sha256:{sha256[:12]}", sha256)
    return found


def _show(manifest: Mapping[str, Any], key: str) -> str:
    value = manifest.get(key, "")
    return ", ".join(value) if isinstance(value, list) else str(value)


def _size(manifest: Mapping[str, Any]) -> int:
    return sum(int(part["size"]) for part in manifest["files"].values())
