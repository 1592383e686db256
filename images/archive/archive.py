"""A Debian archive, trusted from its signature down: suites in, checked .debs out."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from images.addresses import without_login
from images.archive.fetch import Fetcher, Wanted
from images.archive.keys import load_pinned_keys, verify_signed
from images.archive.packages import Package, PackageIndex
from images.archive.pinned import PinnedIndex
from images.archive.release import IndexFile, Release, check_release, parse_release
from images.archive.resolver import resolve
from images.errors import HashError, StaleIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pysequoia import Cert

    from images.progress import Progress

_T = TypeVar("_T")

DEFAULT_MIRROR = "http://deb.debian.org/debian"
INRELEASE_LIMIT = 4 << 20
PIECE = 64 << 10
"""Bytes of an index that are packed together: the more, the longer it takes to look a package up."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite of one archive.

    :param url: the folder that holds `dists/`.
    """

    name: str
    url: str


def suites_of(suite: str, mirror: str, pockets: Iterable[str]) -> list[Suite]:
    """The suite and its pockets (`security`, `updates`).

    Debian's security archive is one of its own that mirrors carry beside the main one: `…/debian-security`.
    """
    base = mirror.rstrip("/")
    beside = base.removesuffix("/debian") + "/debian-security" if base.endswith("/debian") else f"{base}-security"
    return [
        Suite(suite, base),
        *(Suite(f"{suite}-{pocket}", beside if pocket == "security" else base) for pocket in pockets),
    ]


@dataclass(frozen=True, slots=True)
class Archive:
    """Opened suites: their packages are known and trusted."""

    index: PackageIndex
    fetcher: Fetcher

    def resolve(self, names: Iterable[str], exclude: Collection[str] = ()) -> list[Package]:
        """See `images.archive.resolver.resolve`."""
        return resolve(self.index, names, exclude)

    def fetch(self, packages: Sequence[Package], progress: Progress) -> list[Path]:
        """See `fetch_packages`."""
        return fetch_packages(packages, self.fetcher, progress)


def fetch_packages(packages: Sequence[Package], fetcher: Fetcher, progress: Progress) -> list[Path]:
    """The checked .debs of `packages`, in their order; no index is needed. Raises as `Fetcher.fetch_all`."""
    items = [Wanted(f"{p.name}_{p.version}_{p.arch}.deb", (p.url,), p.sha256, p.size) for p in packages]
    return fetcher.fetch_all(items, progress, "packages")


def with_fresh_index(attempt: Callable[[], _T], progress: Progress) -> _T:
    """Do what opens an archive and fetches from it; once more from its start when the mirror is not as its index says.

    :raises StaleIndexError: it is not as the next index says, either.
    """
    try:
        return attempt()
    except StaleIndexError as fault:
        progress.note(f"{fault.brief}; perhaps the mirror is being updated: its index is read anew, once")
    return attempt()


def open_archive(
    suites: Sequence[Suite],
    arch: str,
    fetcher: Fetcher,
    progress: Progress,
    *,
    keys: Sequence[Cert] | None = None,
    now: datetime | None = None,
    only: Collection[str] | None = None,
    pins: Mapping[str, str] | None = None,
    others: Mapping[str, Sequence[Suite]] | None = None,
) -> Archive:
    """Fetch and check every suite's InRelease, then its package index by the hash the signature covers.

    :param keys: the pinned certificates; default: those shipped.
    :param only: the names of packages to know; default: all.
    :param pins: packages that are to come from another suite, which `others` has; checked like the first one.
    :raises SignatureError: not signed by a pinned key, for another suite, or out of date.
    :raises HashError: an index differs from what InRelease promises.
    :raises MirrorError: a mirror does not answer.
    """
    trusted = load_pinned_keys() if keys is None else keys
    moment = now or datetime.now(UTC)
    others = others or {}
    index = PinnedIndex(pins=dict(pins), others={name: PackageIndex() for name in others}) if pins else PackageIndex()
    opened = [(index, suite) for suite in suites]
    if isinstance(index, PinnedIndex):
        opened += [(index.others[name], suite) for name, group in others.items() for suite in group]
    wanted: list[Wanted] = []
    with progress.step("archive signatures"):
        for _, suite in opened:
            release = _read_release(suite, fetcher, trusted, moment)
            wanted.append(_wanted_index(suite, release, release.index(arch)))
    paths = fetcher.fetch_all(wanted, progress, "package indexes")
    with progress.step("reading package indexes"):
        for (target, suite), path in zip(opened, paths, strict=True):
            _read_index(target, path, suite.url, only)
    return Archive(index, fetcher)


def _read_release(suite: Suite, fetcher: Fetcher, keys: Sequence[Cert], now: datetime) -> Release:
    url = f"{suite.url}/dists/{suite.name}/InRelease"
    shown = without_login(url)
    signed = verify_signed(fetcher.read(url, INRELEASE_LIMIT), keys, shown)
    release = parse_release(signed.decode(errors="replace"))
    check_release(release, suite.name, shown, now)
    return release


def _wanted_index(suite: Suite, release: Release, file: IndexFile) -> Wanted:
    # By hash first: a mirror that is being updated still holds the index this InRelease speaks of.
    folder = f"{suite.url}/dists/{suite.name}"
    by_hash = f"{folder}/{file.path.rpartition('/')[0]}/by-hash/SHA256/{file.sha256}"
    plain = f"{folder}/{file.path}"
    urls = (by_hash, plain) if release.by_hash else (plain,)
    return Wanted(f"{suite.name} {file.path}", urls, file.sha256, file.size)


def _read_index(index: PackageIndex, path: Path, base: str, only: Collection[str] | None) -> None:
    try:
        if only is None:
            with lzma.open(path) as file:
                index.add(iter(lambda: file.read(PIECE), b""), base)
        else:
            with lzma.open(path, "rt", encoding="utf-8") as lines:
                index.add(["".join(_stanzas_of(lines, only)).encode()], base)
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise HashError(
            "a package index cannot be read",
            f"{path}: {error}",
            "Try another mirror, e.g. `hostvm image build --mirror http://deb.debian.org/debian`",
        ) from error


def _stanzas_of(lines: Iterable[str], only: Collection[str]) -> Iterator[str]:
    """The lines of the packages called so, with the empty lines between; a stanza begins with its name."""
    keep = False
    for line in lines:
        if line.startswith("Package:"):
            keep = line.removeprefix("Package:").strip() in only
        if keep:
            yield line
